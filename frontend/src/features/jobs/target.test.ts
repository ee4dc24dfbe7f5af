import { describe, expect, it } from "vitest";
import { shownValue, startingValue, targetOf, wholeTarget } from "./target";

describe("the target of a job", () => {
  it("is a share, or whole parameters and bytes", () => {
    expect(targetOf("sparsity", 90)).toEqual({ sparsity: 0.9 });
    expect(targetOf("sparsity", "97.35")).toEqual({ sparsity: 0.9735 });
    expect(targetOf("max_nonzero_params", 13.2)).toEqual({ max_nonzero_params: 13_200_000 });
    expect(targetOf("max_bytes", 0.0000014)).toEqual({ max_bytes: 1 });
  });

  it("may be a time, on a node", () => {
    const on = { node: "n", rows: 1, tokens: 128 };
    expect(targetOf("max_latency_ms", "3.5", on)).toEqual({ max_latency_ms: 3.5, on });
    expect(targetOf("min_speedup", 2, on)).toEqual({ min_speedup: 2, on });
    expect(targetOf("min_speedup", 2)).toBeNull();
    expect(targetOf("sparsity", 90, on)).toEqual({ sparsity: 0.9, on });
  });

  it("starts empty where the plan has no less than the dense model, so that no tab opens with an error", () => {
    const time = { node: "n", rows: 1, tokens: 128, latency_ms: 14.4, dense_latency_ms: 14.42, speedup: 1.001 };
    const plan = { groups: [], sparsity: 0.9, memory_bytes: 124_413_456, dense_memory_bytes: 124_413_456, time };
    expect(startingValue("max_memory_bytes", plan)).toBe("");
    expect(startingValue("max_latency_ms", plan)).toBe(14.4);
    expect(startingValue("max_latency_ms", { ...plan, time: { ...time, latency_ms: 14.42 } })).toBe("");
    expect(startingValue("min_speedup", plan)).toBe("");
    const small = { ...plan, sparse_bytes: 61_234, dense_bytes: 70_000 };
    expect(startingValue("max_bytes", small)).toBe(0.062);
  });

  it("keeps the other limits of a clone, and its groups", () => {
    const rest = { groups: { decoder: 0.9 }, max_bytes: 5 };
    expect(wholeTarget("sparsity", 90, null, rest)).toEqual(rest);
    expect(wholeTarget("max_memory_bytes", 10, null, rest)).toEqual({ ...rest, max_memory_bytes: 10_000_000 });
    expect(wholeTarget("sparsity", 90, null, { max_bytes: 5 })).toEqual({ sparsity: 0.9, max_bytes: 5 });
    expect(wholeTarget("max_bytes", "", null, { max_bytes: 5 })).toBeNull();
  });

  it("is missing while the number is", () => {
    for (const value of ["", "-", 0, -3]) expect(targetOf("max_bytes", value)).toBeNull();
  });

  it("starts a budget where the plan stands, rounded up so that it can be met", () => {
    const plan = { groups: [], sparsity: 0.9, sparse_bytes: 52_340_001, nonzero_params: 13_000_000 };
    expect(startingValue("max_bytes", plan)).toBe(52.4);
    expect(startingValue("max_nonzero_params", plan)).toBe(13);
    expect(startingValue("max_memory_bytes", null)).toBe("");
    expect(startingValue("sparsity", plan)).toBe(90);
    const time = { node: "n", rows: 1, tokens: 128, latency_ms: 7.21, dense_latency_ms: 14.42, speedup: 2.005 };
    expect(startingValue("max_latency_ms", { ...plan, time })).toBe(7.3);
    expect(startingValue("min_speedup", { ...plan, time })).toBe(2);
    expect(startingValue("min_speedup", { ...plan, time: { ...time, speedup: 1 } })).toBe("");
    expect(startingValue("max_latency_ms", plan)).toBe("");
    expect([shownValue("sparsity", 0.875), shownValue("max_bytes", 5e6), shownValue("min_speedup", 2)]).toEqual([
      87.5, 5, 2,
    ]);
  });
});
