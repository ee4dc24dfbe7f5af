import { describe, expect, it } from "vitest";
import type { Report } from "@/api/types";
import { qualityOf } from "./quality";

const of = (report: object) => qualityOf(report as Report);

describe("what a version is worth", () => {
  it("is its primary metric on the test rows, or else on validation", () => {
    const validation = { accuracy: 0.92, spearman: 0.8, interval: [0.87, 0.96] };
    expect(of({ metrics: { validation, test: null } })).toEqual({
      metric: "accuracy",
      split: "validation",
      value: 0.92,
      interval: [0.87, 0.96],
      share: true,
    });
    const test = { spearman: 0.7, intervals: { spearman: [0.6, 0.8] } };
    expect(of({ primary: "spearman", metrics: { validation, test } })).toMatchObject({
      split: "test",
      value: 0.7,
      interval: [0.6, 0.8],
      share: false,
    });
    expect(of({ base_model: {} })).toBeNull();
  });
});
