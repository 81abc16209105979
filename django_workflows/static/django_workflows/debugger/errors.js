// The server's words about a form's fields: "name\n  Input should be a string [type=...]" by field. Pure.

/**
 * Take a validation message of the server apart.
 *
 * @param {string} detail
 * @returns {Object<string, string> | string} path -> message, or the whole message when it names no field
 */
export function fieldErrors(detail) {
  const [, head, rest] = /^([\s\S]*?validation errors? for [^\n]*)\n([\s\S]*)$/.exec(detail) ?? [];
  if (head === undefined) return detail;
  const found = {};
  let path = null;
  for (const line of rest.split("\n")) {
    if (/^\S/.test(line)) path = line.trim();
    else if (path !== null && line.startsWith("  ") && !line.trim().startsWith("For further information")) {
      const message = line.trim().replace(/ \[type=.*\]$/s, "");
      found[path] = found[path] ? `${found[path]} ${message}` : message;
    }
  }
  return Object.keys(found).length ? found : detail;
}
