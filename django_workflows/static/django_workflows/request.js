/** Requests to the API, as the site's session or with credentials of their own. */

/** What was asked was not done. */
export class Refused extends Error {
  /**
   * @param {number} status The HTTP status; 0 when the connection was lost before there was an answer.
   * @param {*} detail Why, mostly a sentence.
   */
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : JSON.stringify(detail));
    this.name = "Refused";
    this.status = status;
    this.detail = detail;
  }
}

/** Whether the same may succeed later. */
export function isPassing(status) {
  return status === 408 || status === 429 || status >= 500;
}

export function headers(target, more = {}) {
  return target.authorization ? {...more, Authorization: target.authorization} : more;
}

/** Return the URL of a path of the API. */
export function address(target, path, query = {}) {
  const here = globalThis.location?.href;
  const url = new URL(`${target.baseUrl}/${path}`, here);
  for (const [name, value] of Object.entries(query)) {
    url.searchParams.set(name, value);
  }
  return url;
}

/**
 * POST a JSON body and return the answer's.
 *
 * @param {string} [key] The same request with the same key is carried out once.
 * @throws {Refused}
 */
export async function request(target, path, body, key = null) {
  const token = target.csrfToken ?? cookie("csrftoken");
  const more = {"Content-Type": "application/json", ...(token ? {"X-CSRFToken": token} : {})};
  if (key) {
    more["Idempotency-Key"] = `"${key}"`;
  }
  let response;
  try {
    response = await fetch(address(target, path), {
      method: "POST",
      headers: headers(target, more),
      body: JSON.stringify(body),
    });
  } catch (error) {
    throw new Refused(0, `The server cannot be reached: ${error.message}`);
  }
  if (!response.ok) {
    throw await refusal(response);
  }
  return response.json();
}

/** Return why a response refuses what was asked. */
export async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new Refused(response.status, body.detail ?? response.statusText);
}

function cookie(name) {
  for (const part of (globalThis.document?.cookie ?? "").split("; ")) {
    if (part.startsWith(`${name}=`)) {
      return decodeURIComponent(part.slice(name.length + 1));
    }
  }
  return null;
}
