import type { Job } from "@/api/types";
import type { Line } from "@/components/OverlayChart";
import type { JobRecord } from "@/features/jobs/record";
import { type Measure, measuresOf } from "@/features/jobs/report/read";
import { SETTINGS } from "@/features/jobs/settings";

/** Names of the jobs as columns; a number tells those apart that share one. */
export function columnNames(jobs: Job[]): string[] {
  return jobs.map(({ name }, at) => {
    const before = jobs.slice(0, at).filter((other) => other.name === name).length;
    return before === 0 ? name : `${name} (${before + 1})`;
  });
}

/** What was asked for differently: name of the setting, and each job's value. */
export function differing(jobs: Job[]): { name: string; values: unknown[] }[] {
  const rows = [
    { name: "dataset", values: jobs.map((job): unknown => job.dataset.name) },
    { name: "base_model", values: jobs.map((job): unknown => job.base_model.split("@")[0]) },
    ...(["sparsity", "max_nonzero_params", "max_bytes", "max_memory_bytes"] as const).map((name) => ({
      name: `target.${name}`,
      values: jobs.map((job): unknown => job.target[name] ?? null),
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
  /** Bytes of the compact file, or milliseconds of one pass. */
  cost: number;
  /** The primary metric on the test split, else on validation. */
  value: number;
  measure: Measure;
  /** What the cost is. */
  price: Measure;
}

/** A job's quality against its size, or against the time of one pass, once it has a report with both. */
export function pointOf(label: string, report: unknown, against: "bytes" | "time" = "bytes"): Point[] {
  const measures = measuresOf(report);
  const qualities = measures.filter(({ name }) => name === "quality");
  const [first] = qualities;
  const measure = qualities.find(({ of }) => of.split === "test" && of.metric === first?.of.metric) ?? first;
  const price = measures.find(({ name }) => name === against);
  return measure?.sparse && price?.sparse
    ? [{ label, cost: price.sparse.value, value: measure.sparse.value, measure, price }]
    : [];
}
