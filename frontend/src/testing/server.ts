import type { paths } from "@/api/schema";

type Method = "get" | "post" | "put" | "patch" | "delete";
type Content<Operation> = Operation extends { responses: infer Found }
  ? {
      [Status in keyof Found]: Found[Status] extends { content: { "application/json": infer Body } } ? Body : never;
    }[Exclude<keyof Found, "default">]
  : never;
type Answer<Path extends keyof paths, Verb extends Method> = Content<paths[Path][Verb]>;

/** What was asked of the server, as the tests look at it. */
export interface Asked {
  method: string;
  path: string;
  query: Record<string, string>;
  body: unknown;
}

const known = new Map<string, [status: number, body: unknown]>();
export const asked: Asked[] = [];

export function forget(): void {
  known.clear();
  asked.length = 0;
}

/** The platform answers `method path` so; the answer is of the type that the contract gives it. */
export function serve<Path extends keyof paths, Verb extends Method>(
  method: Verb,
  path: Path,
  body: NoInfer<Answer<Path, Verb>>,
): void {
  known.set(`${method} ${path}`, [200, body]);
}

/** The platform refuses, in its one shape of an error. */
export function refuse(method: Method, path: keyof paths, status: number, code: string, details: object[] = []): void {
  const error = { code, message: `It says ${code}.`, details, request_id: "r1" };
  known.set(`${method} ${path}`, [status, { error }]);
}

/** In place of fetch. What no test said is an error of the test, which the page shows and the test sees. */
export async function answer(request: Request): Promise<Response> {
  const url = new URL(request.url);
  const text = await request.text();
  const one: Asked = {
    method: request.method.toLowerCase(),
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    body: text ? JSON.parse(text) : null,
  };
  asked.push(one);
  const found = [...known].find(([key]) => fits(key, one));
  if (!found) throw new Error(`No answer to ${one.method} ${one.path}`);
  const [status, body] = found[1];
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

function fits(key: string, { method, path }: Asked): boolean {
  const [verb, pattern = ""] = key.split(" ");
  const parts = pattern.split("/");
  const given = path.split("/");
  return (
    verb === method && parts.length === given.length && parts.every((part, at) => part[0] === "{" || part === given[at])
  );
}
