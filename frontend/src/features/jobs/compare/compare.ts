import type { Job } from "@/api/types";
import type { Line } from "@/components/OverlayChart";
import type { JobRecord } from "@/features/jobs/record";
import { type Measure, measuresOf } from "@/features/jobs/report/read";
import { SETTINGS } from "@/features/jobs/settings";
import { percent } from "@/lib/format";

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

const TARGETS = [
  "sparsity",
  "max_nonzero_params",
  "max_bytes",
  "max_memory_bytes",
  "max_latency_ms",
  "min_speedup",
] as const;

/** What was asked for differently: name of the setting, and each job's value. */
export function differing(jobs: Job[]): { name: string; values: unknown[] }[] {
  const groups = [...new Set(jobs.flatMap(({ target }) => Object.keys(target.groups ?? {})))];
  const rows = [
    { name: "dataset", values: jobs.map((job): unknown => job.dataset.name) },
    { name: "base_model", values: jobs.map((job): unknown => job.base_model.split("@")[0]) },
    ...TARGETS.map((name) => ({
      name: `target.${name}`,
      values: jobs.map((job): unknown => job.target[name] ?? null),
    })),
    ...groups.map((name) => ({
      name: `target.groups.${name}`,
      values: jobs.map((job): unknown => job.target.groups?.[name] ?? null),
    })),
    ...SETTINGS.map(({ name, default: standard }) => ({
      name: `settings.${name}`,
      values: jobs.map((job): unknown => job.settings[name] ?? standard),
    })),
  ];
  return rows.filter(({ values }) => values.some((value) => value !== values[0]));
}

type Series = "loss" | "sparsity" | "rate" | "score";

/** One quantity of every job, from the beginning of its sparse training. */
export function linesOf(records: { label: string; record: JobRecord | undefined }[], series: Series): Line[] {
  return records.flatMap(({ label, record }) => {
    if (!record) return [];
    const [times, values] = series === "score" ? [record.scoredAt, record.score] : [record.time, record[series]];
    const phase = record.phases.findLast((span) => span.phase === "train");
    const begin = phase?.start ?? times[0];
    if (begin === undefined) return [];
    // The dense baseline's curve before it has nothing to compare with.
    const from = times.findIndex((time) => time >= begin);
    if (from < 0) return [];
    return [{ label, times: times.slice(from).map((time) => time - begin), values: values.slice(from) }];
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
export function primaryOf(report: unknown): Measure | undefined {
  const qualities = measuresOf(report).filter(({ name }) => name === "quality");
  const [first] = qualities;
  return qualities.find(({ of }) => of.split === "test" && of.metric === first?.of.metric) ?? first;
}

/** A job's quality against one of its costs, once it has a report with both. */
export function pointOf(label: string, report: unknown, against: Price = "bytes"): Point[] {
  const price = priceOf(report, against)?.sparse;
  return pointAt(label, report, price?.value ?? null).map((point) => ({ ...point, interval: price?.interval ?? null }));
}

/** The same with a cost that the report doesn't say. */
export function pointAt(label: string, report: unknown, cost: number | null): Point[] {
  const measure = primaryOf(report);
  return measure?.sparse && cost !== null ? [{ label, cost, value: measure.sparse.value, measure }] : [];
}

export function priceOf(report: unknown, against: Price): Measure | undefined {
  return measuresOf(report).find(({ name }) => name === against);
}
