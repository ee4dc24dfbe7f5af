import type { Report } from "@/api/types";
import { isShare } from "@/lib/format";
import { intervalOf, numberOf } from "@/lib/tree";

export interface Quality {
  metric: string;
  split: "test" | "validation";
  value: number;
  /** 95 %. */
  interval: [number, number] | null;
  /** People read it in percent. */
  share: boolean;
}

/** The primary metric of a version's report, of the test rows where there are some. */
export function qualityOf({ primary, metrics }: Report): Quality | null {
  const metric = primary || "accuracy";
  for (const split of ["test", "validation"] as const) {
    const found = metrics?.[split];
    const value = numberOf(found?.[metric]);
    if (value === null) continue;
    const interval = intervalOf(found?.intervals?.[metric] ?? found?.interval);
    return { metric, split, value, interval, share: isShare(metric) };
  }
  return null;
}
