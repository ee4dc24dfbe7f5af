/** Reading JSON whose shape may be older or newer than this page: what is not there is null. */

export type Node = Record<string, unknown>;

export function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function at(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>((node, key) => (isNode(node) ? node[key] : undefined), value);
}

export function nodeAt(value: unknown, ...path: string[]): Node {
  const found = at(value, ...path);
  return isNode(found) ? found : {};
}

export function listAt(value: unknown, ...path: string[]): unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** The items of a list; none where it is missing. */
export function listOf<Item>(value: readonly Item[] | null | undefined): readonly Item[] {
  return Array.isArray(value) ? value : [];
}

/** A number of data that has no type of its own; null when it isn't one. */
export function numberOf(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** The numbers of a list; null unless all are numbers. */
export function numbersOf(value: unknown): number[] | null {
  return Array.isArray(value) && value.every((item) => numberOf(item) !== null) ? (value as number[]) : null;
}

export function intervalOf(value: unknown): [number, number] | null {
  const [low, high] = numbersOf(value) ?? [];
  return low !== undefined && high !== undefined ? [low, high] : null;
}
