import type { components } from "./schema";

type ApiError = components["schemas"]["Error"];

/** The platform's one error shape, or null when the error is of another kind (no network, a fault of our own). */
export function apiError(error: unknown): ApiError["error"] | null {
  if (typeof error !== "object" || error === null || !("error" in error)) return null;
  const inner = (error as ApiError).error;
  return typeof inner === "object" && inner !== null && typeof inner.message === "string" ? inner : null;
}

export function isSignedOut(error: unknown): boolean {
  const code = apiError(error)?.code;
  return code === "not_authenticated" || code === "authentication_failed";
}

/** One message per field of the request, for showing it where it belongs. */
export function fieldErrors(error: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  for (const detail of apiError(error)?.details ?? []) {
    const { field, message } = detail as { field?: unknown; message?: unknown };
    if (typeof field === "string" && field && typeof message === "string") found[field] ??= message;
  }
  return found;
}
