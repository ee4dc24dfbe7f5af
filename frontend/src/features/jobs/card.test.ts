import { describe, expect, it } from "vitest";
import { cardOf } from "./card";

const REPORT = {
  metrics: {
    validation: { accuracy: 0.9, macro_f1: 0.88, interval: [0.86, 0.94] },
    test: { accuracy: 0.92, macro_f1: 0.91, interval: [0.89, 0.95] },
  },
  dense: { validation: { accuracy: 0.91, macro_f1: 0.9 }, test: { accuracy: 0.94, macro_f1: 0.93 } },
  sparsity: { target: 0.9, reached: 0.90001, matrices: [] },
  params: { total: 22_700_000, nonzero: 13_000_000 },
  bytes: { dense: 90_000_000, sparse: 52_000_000 },
  seconds: { dense: 20.5, train: 40 },
  agreement: 0.97,
};

describe("the report card", () => {
  it("takes the test split where there is one", () => {
    const card = cardOf(REPORT);
    expect(card.split).toBe("test");
    expect(card.accuracy).toEqual({ dense: 0.94, sparse: 0.92, interval: [0.89, 0.95] });
    expect(card.bytes).toEqual({ dense: 90_000_000, sparse: 52_000_000 });
    expect(card.seconds).toEqual([
      ["dense", 20.5],
      ["train", 40],
    ]);
  });

  it("falls back to validation", () => {
    const card = cardOf({ ...REPORT, metrics: { ...REPORT.metrics, test: null } });
    expect(card.split).toBe("validation");
    expect(card.accuracy.sparse).toBe(0.9);
  });

  it("shows nothing where the report has nothing", () => {
    for (const odd of [null, {}, [], "text", { metrics: 3, bytes: [], seconds: { dense: "long" } }]) {
      const card = cardOf(odd);
      expect(card.accuracy).toEqual({ dense: null, sparse: null, interval: null });
      expect(card.seconds).toEqual([]);
    }
  });
});
