import type { DatasetReport } from "@/api/types";

export const SPLITS = ["train", "validation", "test"] as const;
export type SplitName = (typeof SPLITS)[number];

export type FullReport = Required<DatasetReport>;

/** The report once validation is through; null before, and where nothing could be read. */
export function fullReport({ splits, columns, overlap, warnings, majority_share }: DatasetReport): FullReport | null {
  return splits && columns && overlap && warnings && majority_share !== undefined
    ? { splits, columns, overlap, warnings, majority_share }
    : null;
}

/** The splits that are there, in the usual order. */
export function splitsOf(report: FullReport): SplitName[] {
  return SPLITS.filter((name) => report.splits[name]);
}
