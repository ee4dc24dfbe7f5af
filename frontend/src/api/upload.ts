import { csrfToken } from "./client";

/** Sends a form with files and tells how much of it has gone; fetch() cannot tell that. Rejects with the
 * platform's error body, or with a TypeError when the server is out of reach, as the typed client does. */
export function upload<Answer>(
  url: string,
  form: FormData,
  onProgress: (sent: number, total: number) => void,
  signal: AbortSignal,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "text";
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded, event.total);
    };
    const unreachable = () => reject(new TypeError("The connection was lost."));
    request.onerror = unreachable;
    request.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    request.onload = () => {
      let body: unknown;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        return unreachable();
      }
      if (request.status >= 200 && request.status < 300) resolve(body as Answer);
      else reject(body);
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}
