import { DetailedError, defaultOptions, type PreviousUpload, Upload } from "tus-js-client";
import { client, csrfToken, language } from "./client";

const ENDPOINT = "/api/v1/uploads";
/** A connection that breaks costs less than one piece; no proxy has to take more than this in one request. */
const PIECE = 8 * 1024 * 1024;
const RETRY_AFTER = [0, 1000, 3000, 5000, 10_000, 20_000];

/** An upload that was begun in this browser, here or before a reload, and that has not ended. */
export interface Unfinished {
  id: string;
  name: string;
  size: number;
  begun: Date;
  key: string;
}

function idOf(url: string | null | undefined): string {
  return url?.split("/").at(-1) ?? "";
}

function mark(file: File, workspace: string): string {
  return `sparsewright ${workspace} ${file.name} ${file.size} ${file.lastModified}`;
}

/** Sends a file in pieces, from where an earlier attempt with the same file stopped, and gives the upload's id.
 * Rejects with the platform's error body, or with a TypeError when the server is out of reach, as the typed client does. */
export async function sendFile(
  file: File,
  workspace: string,
  onProgress: (sent: number) => void,
  signal: AbortSignal,
): Promise<string> {
  let finish: (id: string) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const ended = new Promise<string>((resolve, reject) => {
    finish = resolve;
    fail = reject;
  });
  const upload = new Upload(file, {
    endpoint: ENDPOINT,
    chunkSize: PIECE,
    retryDelays: RETRY_AFTER,
    metadata: { filename: file.name, workspace },
    fingerprint: async () => mark(file, workspace),
    removeFingerprintOnSuccess: true,
    onBeforeRequest: (request) => {
      request.setHeader("X-CSRFToken", csrfToken());
      request.setHeader("Accept-Language", language());
    },
    onProgress,
    onSuccess: () => finish(idOf(upload.url)),
    onError: (error) => fail(meaningOf(error)),
  });
  signal.addEventListener(
    "abort",
    () => {
      void upload.abort();
      fail(new DOMException("The upload was stopped.", "AbortError"));
    },
    { once: true },
  );
  const [before] = await upload.findPreviousUploads();
  if (before) upload.resumeFromPreviousUpload(before);
  if (!signal.aborted) upload.start();
  return ended;
}

function meaningOf(error: unknown): unknown {
  const body = error instanceof DetailedError ? error.originalResponse?.getBody() : "";
  try {
    return JSON.parse(body ?? "");
  } catch {
    return new TypeError("The connection was lost.");
  }
}

/** Uploads to `workspace` that stopped on their way. */
export async function unfinished(workspace: string): Promise<Unfinished[]> {
  const found = await (defaultOptions.urlStorage?.findAllUploads() ?? Promise.resolve<PreviousUpload[]>([]));
  return found
    .filter(({ metadata }) => metadata.workspace === workspace)
    .map(({ metadata, size, creationTime, urlStorageKey, uploadUrl }) => ({
      id: idOf(uploadUrl),
      name: metadata.filename ?? "",
      size: size ?? 0,
      begun: new Date(creationTime),
      key: urlStorageKey,
    }));
}

/** Gives an upload up, here and on the server. */
export async function forget({ id, key }: Unfinished): Promise<void> {
  await defaultOptions.urlStorage?.removeUpload(key);
  await client.DELETE("/api/v1/uploads/{upload_id}", {
    params: { path: { upload_id: id }, header: { "Tus-Resumable": "1.0.0" } },
  });
}
