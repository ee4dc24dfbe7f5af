import type { JobPlan, Target } from "@/api/types";

export const KINDS = ["sparsity", "max_nonzero_params", "max_bytes", "max_memory_bytes"] as const;
export type Kind = (typeof KINDS)[number];

/** People write budgets in millions: of parameters, or of bytes (MB). */
export const MILLION = 1e6;

/** The target as the API takes it; null while the number is missing. `value` is in percent or in millions. */
export function targetOf(kind: Kind, value: number | string): Target | null {
  const number = typeof value === "number" ? value : Number.parseFloat(value);
  if (!Number.isFinite(number) || number <= 0) return null;
  return kind === "sparsity" ? { sparsity: round(number / 100) } : { [kind]: Math.round(number * MILLION) };
}

/** A first value for a budget: what the plan that is shown now would need. */
export function startingValue(kind: Kind, plan: JobPlan | null | undefined): number | "" {
  if (kind === "sparsity") return 90;
  const amounts: Record<Exclude<Kind, "sparsity">, number | null | undefined> = {
    max_nonzero_params: plan?.nonzero_params,
    max_bytes: plan?.sparse_bytes,
    max_memory_bytes: plan?.memory_bytes,
  };
  const amount = amounts[kind];
  return amount == null ? "" : Math.ceil(amount / 1e5) / 10;
}

function round(share: number): number {
  return Math.round(share * 10_000) / 10_000;
}
