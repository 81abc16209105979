/** What all requests to the API have in common, as the site's session or with credentials of their own. */

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

/** Return why a response refuses what was asked. */
export async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new Refused(response.status, body.detail ?? response.statusText);
}
