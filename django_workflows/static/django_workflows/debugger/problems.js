// Where it is said what is wrong with a form: beside the field that a problem names.

/**
 * Show problems by their fields, and go to the first.
 *
 * @param {{path: string, message: string}[]} problems a path is like "documents.0.title"
 * @param {object} field of the whole form, as fields.js makes it
 * @returns {string[]} what is to be said on top: what names no field, and how many do
 */
export function placeProblems(problems, field) {
  const places = problems.map(({ path, message }) => ({ path, message, found: find(field, path.split(".")) }));
  // The first of several stays.
  for (const { message, found } of places.toReversed()) found?.showError(message);
  places.find(({ found }) => found)?.found.control.focus();
  const rest = places.filter(({ found }) => !found);
  const others = places.length - rest.length;
  const note = others && (rest.length || others > 1) ? [`${others} ${others === 1 ? "field needs" : "fields need"} another look.`] : [];
  return [...rest.map(({ path, message }) => (path ? `${path}: ${message}` : message)), ...note];
}

/** The innermost field on a path. Names that no field has are passed over: pydantic puts types into its paths. */
function find(start, names) {
  let found = null;
  let at = start;
  for (let i = 0; i < names.length; i += 1) {
    const parts = new Map(at.parts());
    // A name may have dots in it.
    const end = names.findIndex((_, j) => j >= i && parts.has(names.slice(i, j + 1).join(".")));
    if (end === -1) continue;
    at = parts.get(names.slice(i, end + 1).join("."));
    found = at;
    i = end;
  }
  return found;
}
