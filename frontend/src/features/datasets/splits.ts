export const SPLITS = ["train", "validation", "test"] as const;
export type SplitName = (typeof SPLITS)[number];

/** The splits that are there, in the usual order. */
export function splitsOf(entries: Partial<Record<SplitName, unknown>> | Record<string, unknown>): SplitName[] {
  return SPLITS.filter((name) => (entries as Record<string, unknown>)[name] != null);
}
