// Set the theme before the first paint: a module would come after it, and the page would flash.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("modvisor.theme");
  } catch {
    // Storage may be forbidden. Then the system's theme holds.
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
