import type { Job } from "@/api/types";
import type { Line } from "@/components/OverlayChart";
import type { JobRecord } from "@/features/jobs/record";
import { SETTINGS } from "@/features/jobs/settings";

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
