// JSON text to a value, with the place of a mistake: browsers name it each in their own way, or not at all. Pure.

const STRING = /"([^"\\\u0000-\u001f]|\\(["\\/bfnrt]|u[\da-fA-F]{4}))*"/y;
const VALUE = new RegExp(`true|false|null|-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?|${STRING.source}`, "y");
// A text in quotes that nobody closes, as far as it is one.
const UNCLOSED = new RegExp(STRING.source.slice(0, -1), "y");

/**
 * Parse JSON.
 *
 * @returns {{value: any} | {error: {message: string, line: number, column: number, position: number}}}
 */
export function parse(text) {
  try {
    return { value: JSON.parse(text) };
  } catch {
    const { position, expected } = findMistake(text);
    const before = text.slice(0, position).split("\n");
    const [line, column] = [before.length, before.at(-1).length + 1];
    const found = position >= text.length ? "the text ends" : `there is ${JSON.stringify([...text.slice(position)][0])}`;
    return { error: { message: `Line ${line}, column ${column}: expected ${expected}, but ${found}.`, line, column, position } };
  }
}

function findMistake(text) {
  let at = 0;
  const space = () => { while (/[ \t\n\r]/.test(text[at] ?? "")) at += 1; };
  const fail = (expected) => { throw Object.assign(new Error(), { position: at, expected }); };
  const take = (pattern, expected) => {
    pattern.lastIndex = at;
    const found = pattern.test(text);
    if (!found && text[at] !== "\"") fail(expected);
    if (!found) UNCLOSED.lastIndex = at;
    if (!found && UNCLOSED.test(text)) at = UNCLOSED.lastIndex;
    if (!found) fail("a closing quote");
    at = pattern.lastIndex;
  };
  const close = (bracket) => {
    space();
    if (text[at] === ",") at += 1;
    else if (text[at] !== bracket) fail(`“,” or “${bracket}”`);
    return text[at] === bracket && text[at - 1] !== ",";
  };
  // A list of what is still to come, instead of a recursion as deep as the text.
  const open = [];
  const value = () => {
    space();
    const bracket = { "{": "}", "[": "]" }[text[at]];
    if (!bracket) return take(VALUE, "a value");
    at += 1;
    open.push({ bracket, first: true });
  };
  try {
    value();
    while (open.length) {
      const inner = open.at(-1);
      space();
      if (inner.first ? text[at] === inner.bracket : close(inner.bracket)) {
        at += 1;
        open.pop();
        continue;
      }
      inner.first = false;
      if (inner.bracket === "}") {
        space();
        take(STRING, "a name in double quotes");
        space();
        if (text[at] !== ":") fail("“:”");
        at += 1;
      }
      value();
    }
    space();
    return { position: at, expected: "the end" };
  } catch (mistake) {
    if (mistake.position === undefined) throw mistake;
    return mistake;
  }
}
