import type { Job, Report } from "@/api/types";
import { percent } from "@/lib/format";
import { type Measure, measuresOf } from "./measures";

/** Names of the jobs as columns: where some share one, method and sparsity tell them apart, or else a number. */
export function columnNames(jobs: Job[]): string[] {
  const longer = (names: string[], more: (job: Job) => string) =>
    names.map((name, at) => {
      const own = jobs[at];
      const alike = jobs.filter((_, other) => names[other] === name).map(more);
      return own && new Set(alike).size > 1 ? `${name} · ${more(own)}` : name;
    });
  const byMethod = longer(
    jobs.map(({ name }) => name),
    ({ settings }) => String(settings.method ?? "pst"),
  );
  return longer(byMethod, ({ plan }) => percent(plan.sparsity)).map((name, at, all) => {
    const before = all.slice(0, at).filter((other) => other === name).length;
    return before === 0 ? name : `${name} (${before + 1})`;
  });
}

export interface Point {
  label: string;
  /** Bytes of the compact file, the speed-up, the share of zeros, or a setting's value. */
  cost: number;
  /** Of the cost, where it was measured. */
  interval?: [number, number] | null;
  /** The primary metric on the test split, else on validation. */
  value: number;
  measure: Measure;
}

/** Whether another is better in both. Equal quality is not, nor a cost whose interval meets the point's. */
export function beaten(point: Point, points: Point[], wish: "less" | "more"): boolean {
  const [low, high] = span(point);
  return points.some((other) => {
    const [from, to] = span(other);
    return other.value > point.value && (wish === "less" ? to < low : from > high);
  });
}

function span({ cost, interval }: Point): [number, number] {
  return interval ?? [cost, cost];
}

type Price = "bytes" | "speedup" | "sparsity";

/** The primary metric of a report, of the test split where there is one. */
export function primaryOf(report: Report | undefined): Measure | undefined {
  const qualities = measuresOf(report).filter(({ name }) => name === "quality");
  const [first] = qualities;
  return qualities.find(({ of }) => of.split === "test" && of.metric === first?.of.metric) ?? first;
}

/** A job's quality against one of its costs, once it has a report with both. */
export function pointOf(label: string, report: Report | undefined, against: Price = "bytes"): Point[] {
  const price = priceOf(report, against)?.sparse;
  return pointAt(label, report, price?.value ?? null).map((point) => ({ ...point, interval: price?.interval ?? null }));
}

/** The same with a cost that the report doesn't say. */
export function pointAt(label: string, report: Report | undefined, cost: number | null): Point[] {
  const measure = primaryOf(report);
  return measure?.sparse && cost !== null ? [{ label, cost, value: measure.sparse.value, measure }] : [];
}

export function priceOf(report: Report | undefined, against: Price): Measure | undefined {
  return measuresOf(report).find(({ name }) => name === against);
}
