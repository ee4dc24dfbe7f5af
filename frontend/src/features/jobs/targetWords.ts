import type { TFunction } from "i18next";
import { bytes, count, percent, real } from "@/lib/format";
import { KINDS, type Kind, type Rest } from "./target";

/** Each part of a target in words. */
export function targetWords(
  t: TFunction,
  target: Rest,
  node: string | undefined,
): { name: Kind | "groups"; words: string }[] {
  const words: Record<Kind, (amount: number) => string> = {
    sparsity: (amount) => t("jobs.target.sparsityOf", { value: percent(amount) }),
    max_nonzero_params: (amount) => t("jobs.target.paramsOf", { value: count(amount) }),
    max_bytes: (amount) => t("jobs.target.bytesOf", { value: bytes(amount) }),
    max_memory_bytes: (amount) => t("jobs.target.memoryOf", { value: bytes(amount) }),
    max_latency_ms: (amount) => t("jobs.target.latencyOf", { value: real(amount), node }),
    min_speedup: (amount) => t("jobs.target.speedupOf", { value: real(amount), node }),
  };
  const limits = KINDS.flatMap((name) => {
    const amount = target[name];
    return amount == null ? [] : [{ name, words: words[name](amount) }];
  });
  const groups = Object.entries(target.groups ?? {}).map(([group, share]) => `${group}: ${percent(share)}`);
  return groups.length > 0 ? [...limits, { name: "groups", words: groups.join(", ") }] : limits;
}
