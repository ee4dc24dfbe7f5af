import type { JobPlan, Target } from "@/api/types";

export const SIZES = ["sparsity", "max_nonzero_params", "max_bytes", "max_memory_bytes"] as const;
/** Planned with what a serving node has measured of itself. */
export const TIMES = ["max_latency_ms", "min_speedup"] as const;
export const KINDS = [...SIZES, ...TIMES] as const;
export type Kind = (typeof KINDS)[number];

/** On which node, and on what input, times are planned. */
export type Where = NonNullable<Target["on"]>;

/** People write budgets in millions: of parameters, or of bytes (MB). */
export const MILLION = 1e6;

export function isTime(kind: Kind): boolean {
  return TIMES.some((name) => name === kind);
}

/** The target as the API takes it; null while something is missing. `value` is in percent, millions, ms or times. */
export function targetOf(kind: Kind, value: number | string, where: Where | null = null): Target | null {
  const number = typeof value === "number" ? value : Number.parseFloat(value);
  if (!Number.isFinite(number) || number <= 0) return null;
  if (isTime(kind)) return where && { [kind]: number, on: where };
  const size = kind === "sparsity" ? { sparsity: round(number / 100) } : { [kind]: Math.round(number * MILLION) };
  return where ? { ...size, on: where } : size;
}

/** A first value for a budget: what the plan that is shown now would need. */
export function startingValue(kind: Kind, plan: JobPlan | null | undefined): number | "" {
  const up = (amount: number | null | undefined, digits: number) =>
    amount == null ? "" : Math.ceil(Number((amount * 10 ** digits).toPrecision(12))) / 10 ** digits;
  switch (kind) {
    case "sparsity":
      return 90;
    case "max_latency_ms":
      return up(plan?.time?.latency_ms, 1);
    case "min_speedup":
      return plan?.time && plan.time.speedup > 1.01 ? Math.floor(plan.time.speedup * 100) / 100 : 1.5;
    default: {
      const amounts = {
        max_nonzero_params: plan?.nonzero_params,
        max_bytes: plan?.sparse_bytes,
        max_memory_bytes: plan?.memory_bytes,
      };
      const amount = amounts[kind];
      return up(amount == null ? null : amount / MILLION, 1);
    }
  }
}

/** The number that a target of a job shows in the form. */
export function shownValue(kind: Kind, amount: number): number {
  if (kind === "sparsity") return Math.round(amount * 10_000) / 100;
  return isTime(kind) ? amount : amount / MILLION;
}

function round(share: number): number {
  return Math.round(share * 10_000) / 10_000;
}
