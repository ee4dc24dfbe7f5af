import type { JobPlan, Target } from "@/api/types";

export const SIZES = ["sparsity", "max_nonzero_params", "max_bytes", "max_memory_bytes"] as const;
/** Planned with what a serving node has measured of itself. */
export const TIMES = ["max_latency_ms", "min_speedup"] as const;
export const KINDS = [...SIZES, ...TIMES] as const;
export type Kind = (typeof KINDS)[number];

/** What a target holds beside the amount that the form shows: shares of groups, and other limits. */
export type Rest = Omit<Target, "on">;

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

/** The same with what else is asked for; groups take the place of the one sparsity. */
export function wholeTarget(kind: Kind, value: number | string, where: Where | null, rest: Rest): Target | null {
  if (kind === "sparsity" && rest.groups) return { ...rest, ...(where ? { on: where } : {}) };
  const own = targetOf(kind, value, where);
  return own && { ...rest, ...own };
}

/** What the dense model has of a budget's kind, in the field's unit; null where that is not planned. */
export function denseValue(kind: Kind, plan: JobPlan | null | undefined): number | null {
  const amounts: Partial<Record<Kind, number | null | undefined>> = {
    max_nonzero_params: plan?.total_params,
    max_bytes: plan?.dense_bytes,
    max_memory_bytes: plan?.dense_memory_bytes,
    max_latency_ms: plan?.time?.dense_latency_ms,
  };
  const amount = amounts[kind];
  return amount == null ? null : shownValue(kind, amount);
}

/** A first value for a budget: what the plan that is shown now would need, if that is less than the dense model. */
export function startingValue(kind: Kind, plan: JobPlan | null | undefined): number | "" {
  if (kind === "sparsity") return 90;
  if (kind === "min_speedup") {
    const speedup = plan?.time?.speedup ?? 1;
    return speedup > 1.01 ? Math.floor(speedup * 100) / 100 : "";
  }
  const amount = {
    max_nonzero_params: plan?.nonzero_params,
    max_bytes: plan?.sparse_bytes,
    max_memory_bytes: plan?.memory_bytes,
    max_latency_ms: plan?.time?.latency_ms,
  }[kind];
  const dense = denseValue(kind, plan);
  if (amount == null) return "";
  const rounded = [1, 3].map((digits) => up(shownValue(kind, amount), digits));
  return rounded.find((value) => dense === null || value < dense) ?? "";
}

/** Whether pruning brings the plan nearer to a budget of this kind. */
export function gains(kind: Kind, plan: JobPlan | null | undefined): boolean {
  if (isTime(kind)) return (plan?.time?.speedup ?? 1) > 1.01;
  return (plan?.memory_bytes ?? 0) < (plan?.dense_memory_bytes ?? 0);
}

function up(amount: number, digits: number): number {
  return Math.ceil(Number((amount * 10 ** digits).toPrecision(12))) / 10 ** digits;
}

/** The number that a target of a job shows in the form. */
export function shownValue(kind: Kind, amount: number): number {
  if (kind === "sparsity") return Math.round(amount * 10_000) / 100;
  return isTime(kind) ? amount : amount / MILLION;
}

function round(share: number): number {
  return Math.round(share * 10_000) / 10_000;
}
