// The theme follows the system until it is chosen; a group of the legend can be taken out of the charts.
const root = document.documentElement;
const system = window.matchMedia("(prefers-color-scheme: dark)");
const show = (dark) => { root.dataset.theme = dark ? "dark" : "light"; };
show(system.matches);
system.addEventListener("change", (event) => show(event.matches));
document.getElementById("theme").addEventListener("click", () => show(root.dataset.theme !== "dark"));
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(shown));
    for (const mark of document.querySelectorAll(`svg .g${button.dataset.group}`)) mark.classList.toggle("off", !shown);
  });
}
