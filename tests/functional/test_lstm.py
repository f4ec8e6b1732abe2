"""The LSTM cell against torch's."""

import torch

from metavision.functional.lstm import lstm_cell


def test_it_is_torchs() -> None:
    cell = torch.nn.LSTMCell(5, 3)
    x, h, c = torch.randn(4, 5), torch.randn(4, 3), torch.randn(4, 3)
    ours = lstm_cell(dict(cell.named_parameters()), x, h, c)
    torch.testing.assert_close(ours, cell(x, (h, c)))
