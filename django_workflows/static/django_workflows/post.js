/** Commands as POST requests, for who has no WebSocket at the moment. */

import {address, headers, refusal, Refused} from "./request.js";

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

function cookie(name) {
  for (const part of (globalThis.document?.cookie ?? "").split("; ")) {
    if (part.startsWith(`${name}=`)) {
      return decodeURIComponent(part.slice(name.length + 1));
    }
  }
  return null;
}
