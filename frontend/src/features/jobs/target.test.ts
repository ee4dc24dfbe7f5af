import { describe, expect, it } from "vitest";
import { startingValue, targetOf } from "./target";

describe("the target of a job", () => {
  it("is a share, or whole parameters and bytes", () => {
    expect(targetOf("sparsity", 90)).toEqual({ sparsity: 0.9 });
    expect(targetOf("sparsity", "97.35")).toEqual({ sparsity: 0.9735 });
    expect(targetOf("max_nonzero_params", 13.2)).toEqual({ max_nonzero_params: 13_200_000 });
    expect(targetOf("max_bytes", 0.0000014)).toEqual({ max_bytes: 1 });
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
  });
});
