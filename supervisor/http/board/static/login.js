/** The form for a token. */

import { Failure, login } from "./api.js";
import { h, setText } from "./dom.js";

/**
 * @param {string} why what happened before, or nothing
 * @param {() => void} done
 */
export function loginForm(why, done) {
  const problem = h("p", { class: "login-problem", role: "alert" }, why);
  const token = h("input", {
    type: "password",
    name: "token",
    id: "token",
    autocomplete: "current-password",
    placeholder: "mvt_…",
    required: true,
    spellcheck: "false",
  });
  const go = h("button", { class: "button main", type: "submit" }, h("span", {}, "Log in"));
  const form = h(
    "form",
    { class: "login-card" },
    h("p", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "modvisor"),
    h("h1", {}, "Log in"),
    h("label", { for: "token" }, "Operator's token"),
    token,
    problem,
    go,
    h(
      "p",
      { class: "hint" },
      "No token at hand? On the machine of the network, ",
      h("code", {}, "modvisor open"),
      " logs you in with a link, and ",
      h("code", {}, "modvisor token create NAME"),
      " makes a token.",
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(problem, "");
    go.disabled = true;
    try {
      await login({ token: token.value.trim() });
      done();
    } catch (error) {
      setText(problem, error instanceof Failure ? error.message : String(error));
      token.select();
      token.focus();
    } finally {
      go.disabled = false;
    }
  });
  return h("main", { class: "login" }, form);
}
