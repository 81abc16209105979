// What a refusal of the server means, for whoever looks at the page; loaded when there is one. Pure.

/** Say what an answer means, from its status and the server's words. */
export function explain(status, detail) {
  const said = typeof detail === "string" ? detail : detail ? JSON.stringify(detail) : "";
  if (status === 401 || (status === 403 && said.includes("credentials were not provided"))) return "You are logged out. Reload the page to log in again.";
  if (status === 403 && said.includes("CSRF")) return "Your login has changed in the meantime. Reload the page, then try again.";
  if (status === 403) return said || "You may not do this with your account.";
  if (status === 429) return `Too many requests. Wait a moment, then try again. ${said}`;
  if (status === 503) return `The server cannot do it now. Try again in a moment. ${said}`;
  if (status >= 500) return `The server failed (${status}). Its log says why. ${said}`;
  return said || `The server refused this (${status}).`;
}

/** Say why a run cannot be followed, while that is tried again. */
export function interruption({ status, detail }) {
  const said = typeof detail === "string" && detail ? detail : `the server answers ${status}`;
  return `The run cannot be followed at present: ${said.replace(/[^.!?]$/, "$&.")} It is tried again by itself.`;
}

/**
 * Take a validation message apart: "name\n  Input should be a string [type=...]" for each field.
 *
 * @param {string} message
 * @returns {{path: string, message: string}[]} one for each field; the whole message when it names none
 */
export function problems(message) {
  const [, rest = ""] = /validation errors? for [^\n]*\n([\s\S]*)$/.exec(message) ?? [];
  const found = new Map();
  let path = null;
  for (const line of rest.split("\n")) {
    if (/^\S/.test(line)) path = line.trim();
    else if (path !== null && line.startsWith("  ") && !line.trim().startsWith("For further information")) {
      const said = line.trim().replace(/ \[type=.*\]$/s, "");
      found.set(path, found.has(path) ? `${found.get(path)} ${said}` : said);
    }
  }
  return found.size ? [...found].map(([path, message]) => ({ path, message })) : [{ path: "", message }];
}
