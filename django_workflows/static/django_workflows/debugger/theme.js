// The theme, before the first paint: a classic script in the head. Its switch is in shell.js.
(() => {
  const KEY = "django_workflows.theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "system";
  try {
    chosen = localStorage.getItem(KEY) ?? "system";
  } catch {
    // Storage may be forbidden; then the choice holds for this page.
  }

  const apply = () => {
    const dark = chosen === "dark" || (chosen === "system" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };

  globalThis.workflowsTheme = {
    get chosen() {
      return chosen;
    },
    choose(theme) {
      chosen = theme;
      apply();
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // as above
      }
    },
  };
  system.addEventListener("change", apply);
  addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    chosen = event.newValue ?? "system";
    apply();
  });
  apply();
})();
