import type { Deployment } from "@/api/types";

/** How many nodes answer with the wanted version, of how many that shall. */
export function rollout({ placements, wanted, replicas }: Deployment): { ready: number; of: number } {
  const ready = placements.filter(
    ({ online, state, commit }) => online && state === "ready" && wanted !== null && commit === wanted.commit,
  ).length;
  return { ready: Math.min(ready, replicas), of: replicas };
}

/** The labels with the highest probabilities first. */
export function ranked(probabilities: Record<string, number> | null | undefined): [label: string, share: number][] {
  return Object.entries(probabilities ?? {}).sort(([, a], [, b]) => b - a);
}
