import { describe, expect, it } from "vitest";
import type { Job } from "@/api/types";
import { beaten, columnNames, pointAt, pointOf } from "@/features/jobs/measures/points";
import { EMPTY } from "@/features/jobs/record";
import { SETTINGS } from "@/features/jobs/settings";
import { differing, linesOf } from "./compare";

const job = (name: string, settings: object, sparsity = 0.9) =>
  ({
    name,
    settings,
    target: { sparsity },
    dataset: { id: "d", name: "rows" },
    base_model: "base/m@0",
    plan: { sparsity },
  }) as unknown as Job;

describe("jobs beside each other", () => {
  it("have names of their own", () => {
    expect(columnNames([job("a", {}), job("b", {}), job("a", {})])).toEqual(["a", "b", "a (2)"]);
    expect(columnNames([job("a", {}), job("b", {}), job("a", {}, 0.8)])).toEqual(["a · 90.0 %", "b", "a · 80.0 %"]);
    expect(columnNames([job("a", {}), job("a", { method: "magnitude" }), job("a", {}, 0.8)])).toEqual([
      "a · pst · 90.0 %",
      "a · magnitude",
      "a · pst · 80.0 %",
    ]);
  });

  it("show what differs, a default counting as its value", () => {
    const found = differing([
      job("a", { epochs: SETTINGS.find(({ name }) => name === "epochs")?.default, seed: 1 }),
      job("b", { seed: 1 }, 0.8),
    ]);
    expect(found).toEqual([{ name: "target.sparsity", values: [0.9, 0.8] }]);
    const timed = { ...job("b", {}), target: { min_speedup: 2, groups: { decoder: 0.5 } } } as unknown as Job;
    expect(differing([job("a", {}), timed]).map(({ name }) => name)).toEqual([
      "target.sparsity",
      "target.min_speedup",
      "target.groups.decoder",
    ]);
    expect(differing([job("a", { method: "pst" }), job("b", { method: "dense" })])[0]?.values).toEqual([
      "pst",
      "dense",
    ]);
  });

  it("are drawn from the beginning of the sparse training", () => {
    const record = {
      ...EMPTY,
      time: [100, 110, 120],
      loss: [9, 2, 1],
      phases: [
        { phase: "dense", attempt: 1, start: 90, end: 105 },
        { phase: "train", attempt: 1, start: 108, end: null },
      ],
    };
    expect(
      linesOf(
        [
          { label: "a", record },
          { label: "b", record: undefined },
          { label: "c", record: EMPTY },
        ],
        "loss",
      ),
    ).toEqual([{ label: "a", times: [2, 12], values: [2, 1] }]);
  });

  it("have a place by quality and size, of the test split where there is one", () => {
    const report = {
      metrics: { validation: { accuracy: 0.9 }, test: { accuracy: 0.8 } },
      dense: {},
      bytes: { dense: 10, sparse: 5 },
    };
    expect(pointOf("a", report)).toMatchObject([{ label: "a", cost: 5, value: 0.8 }]);
    expect(pointOf("a", { ...report, metrics: { validation: { accuracy: 0.9 }, test: null } })).toMatchObject([
      { value: 0.9 },
    ]);
    expect(pointOf("a", {})).toEqual([]);
    const shapes = [{ rows: 1, tokens: 128, speedup: 3, interval: [2.5, 3.5] }];
    expect(pointOf("a", { ...report, measures: { time: { shapes } } }, "speedup")).toMatchObject([
      { cost: 3, interval: [2.5, 3.5], value: 0.8 },
    ]);
    expect(pointOf("a", { ...report, sparsity: { reached: 0.9 } }, "sparsity")).toMatchObject([{ cost: 0.9 }]);
    expect(pointAt("a", report, 4)).toMatchObject([{ cost: 4, value: 0.8 }]);
    expect(pointAt("a", report, null)).toEqual([]);
    expect(pointOf("a", report, "speedup")).toEqual([]);
  });

  it("are beaten by what is better in both alone", () => {
    const [base] = pointAt("a", { metrics: { validation: { accuracy: 0.9 } } }, 1);
    if (!base) throw new Error("no point");
    const at = (cost: number, value: number, interval?: [number, number]) => ({ ...base, cost, value, interval });
    const own = at(1, 0.9, [0.9, 1.1]);
    expect(beaten(own, [own, at(2, 0.9)], "more")).toBe(false);
    expect(beaten(own, [at(1.2, 0.95, [1.05, 1.4])], "more")).toBe(false);
    expect(beaten(own, [at(2, 0.95, [1.8, 2.2])], "more")).toBe(true);
    expect(beaten(at(5, 0.9), [at(4, 0.9)], "less")).toBe(false);
    expect(beaten(at(5, 0.9), [at(4, 0.91)], "less")).toBe(true);
  });
});
