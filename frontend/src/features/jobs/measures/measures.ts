/** The measures of a job's report.json (docs/guides/report.md), as lines of one table. */
import type { Report } from "@/api/types";
import { isShare } from "@/lib/format";
import { intervalOf, listOf, numberOf } from "@/lib/tree";

export type Unit = "share" | "number" | "count" | "bytes" | "milliseconds" | "points" | "ratio";

/** A value with its 95 % interval. */
export interface Value {
  value: number;
  interval: [number, number] | null;
}

/** One line of the table: the same quantity of both models. `name` is a key below `report.measures`. */
export interface Measure {
  name: string;
  /** Fills the holes of the name: a metric, a split, a shape. */
  of: Record<string, string | number>;
  unit: Unit;
  dense: Value | null;
  sparse: Value | null;
  /** sparse - dense, where it was measured with an interval. */
  difference: Value | null;
  /** Unit of the difference. */
  differenceUnit: Unit;
}

const SPLITS = ["validation", "test"] as const;

export function unitOf(metric: string): Unit {
  return isShare(metric) ? "share" : "number";
}

function value(found: unknown, interval?: unknown): Value | null {
  const number = numberOf(found);
  return number === null ? null : { value: number, interval: intervalOf(interval) };
}

function line(
  name: string,
  of: Measure["of"],
  unit: Unit,
  dense: Value | null,
  sparse: Value | null,
  difference: Value | null = null,
): Measure[] {
  if (!dense && !sparse) return [];
  return [{ name, of, unit, dense, sparse, difference, differenceUnit: unit === "share" ? "points" : unit }];
}

/** The eight measures, as far as the report has them. */
export function measuresOf(report: Report | undefined): Measure[] {
  if (!report) return [];
  return [quality, cost, time, loyalty, robustness, carbon].flatMap((part) => part(report));
}

function quality({ primary, metrics, dense, measures }: Report): Measure[] {
  const main = primary || "accuracy";
  return SPLITS.flatMap((split) => {
    const ours = metrics?.[split] ?? {};
    const theirs = dense?.[split] ?? {};
    const compared = measures?.quality?.splits?.[split];
    return Object.keys(ours).flatMap((metric) => {
      if (numberOf(ours[metric]) === null) return [];
      const own = (node: typeof ours) => node.intervals?.[metric] ?? (metric === main ? node.interval : undefined);
      return line(
        "quality",
        { metric, split },
        unitOf(metric),
        value(theirs[metric], own(theirs)),
        value(ours[metric], own(ours)),
        metric === main ? value(compared?.difference, compared?.difference_interval) : null,
      );
    });
  });
}

function cost({ measures, params, bytes, sparsity }: Report): Measure[] {
  const { flops, trainable, size } = measures ?? {};
  const pair = (name: string, unit: Unit, dense: unknown, sparse: unknown, of: Measure["of"] = {}) =>
    line(name, of, unit, value(dense), value(sparse));
  const zeros = flops?.sparse_with_zeros;
  return [
    ...pair("flops", "count", flops?.dense?.total, flops?.sparse?.total, shapeOf(flops?.shape)),
    ...(numberOf(zeros) === null ? [] : pair("flopsReal", "count", flops?.dense?.total, zeros, shapeOf(flops?.shape))),
    ...pair("trainable", "count", trainable?.dense ?? params?.total, trainable?.sparse ?? params?.trainable),
    ...pair("nonzero", "count", params?.total, params?.nonzero),
    ...pair("bytes", "bytes", bytes?.dense, bytes?.sparse),
    ...pair("memory", "bytes", size?.memory?.dense, size?.memory?.sparse),
    ...line("sparsity", {}, "share", value(0), value(sparsity?.reached)),
  ];
}

function shapeOf(shape: { rows?: unknown; tokens?: unknown } | null | undefined): Measure["of"] {
  return { rows: numberOf(shape?.rows) ?? 1, tokens: numberOf(shape?.tokens) ?? 0 };
}

function time({ measures }: Report): Measure[] {
  return listOf(measures?.time?.shapes).flatMap((shape) => [
    ...line("time", shapeOf(shape), "milliseconds", value(shape.dense?.p50_ms), value(shape.sparse?.p50_ms)),
    ...line("speedup", shapeOf(shape), "ratio", null, value(shape.speedup, shape.interval)),
  ]);
}

function loyalty({ measures, agreement }: Report): Measure[] {
  const found = measures?.loyalty ?? {};
  const shares = {
    agreement: value(found.agreement ?? agreement, found.agreement_interval),
    closeness: value(found.closeness, found.closeness_interval),
    textOverlap: value(found.text_overlap, found.text_overlap_interval),
  };
  return Object.entries(shares).flatMap(([name, share]) => line(name, {}, "share", null, share));
}

function robustness({ measures }: Report): Measure[] {
  const { metric, kinds } = measures?.robustness ?? {};
  const unit = unitOf(metric ?? "");
  return Object.entries(kinds ?? {}).flatMap(([kind, both]) =>
    line("robustness", { kind, metric: metric ?? "" }, unit, value(both?.dense?.value), value(both?.sparse?.value)),
  );
}

function carbon({ measures }: Report): Measure[] {
  const { kwh, grams_co2e } = measures?.carbon ?? {};
  return [
    ...line("energy", {}, "number", null, value(kwh == null ? null : kwh * 1000)),
    ...line("carbon", {}, "number", null, value(grams_co2e)),
  ];
}
