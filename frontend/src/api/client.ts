import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import createFetchClient, { type Middleware } from "openapi-fetch";
import createClient from "openapi-react-query";
import { isSignedOut } from "./errors";
import type { components, paths } from "./schema";

/** Django's token against cross-site requests, as it stands in the cookie now; it changes at sign-in. */
export function csrfToken(): string {
  const entry = document.cookie.split("; ").find((part) => part.startsWith("csrftoken="));
  return entry ? decodeURIComponent(entry.slice("csrftoken=".length)) : "";
}

/** The page's language, in which the server's sentences shall be. */
export function language(): string {
  return document.documentElement.lang;
}

const headers: Middleware = {
  onRequest({ request }) {
    request.headers.set("Accept-Language", language());
    if (request.method !== "GET") request.headers.set("X-CSRFToken", csrfToken());
    return request;
  },
};

/** Typed requests. Same origin, so the session's cookie goes along by itself. */
export const client = createFetchClient<paths>({ baseUrl: "/" });
client.use(headers);

/** Typed hooks over {@link client}. */
export const api = createClient(client);

const meKey = ["get", "/api/v1/me"];

/** Signed in as `me`, or signed out; whatever was loaded for somebody else is forgotten. */
export function setMe(me: components["schemas"]["Me"] | null): void {
  queries.setQueryData(meKey, me);
  queries.removeQueries({ predicate: ({ queryKey }) => queryKey[1] !== meKey[1] });
}

/** A session that ended shows as "signed out" wherever the user happens to be. */
function onError(error: unknown): void {
  if (isSignedOut(error)) queries.setQueryData(meKey, null);
}

export const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: { retry: (count, error) => error instanceof TypeError && count < 3, staleTime: 5_000 },
  },
});

/** Load every query that begins with this path again: what a change of that object may have touched. */
export function reload(...starts: string[]): Promise<void> {
  return queries.invalidateQueries({
    predicate: ({ queryKey }) => starts.some((start) => String(queryKey[1]).startsWith(start)),
  });
}
