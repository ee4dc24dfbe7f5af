import { describe, expect, it } from "vitest";
import type { Report } from "@/api/types";
import { measuresOf } from "@/features/jobs/measures/measures";
import { confusionOf, distributionsOf, gridsOf, matricesOf } from "./read";

const counts = { edges: [-0.1, 0.1], all: [5, 9, 5], kept: [5, 0, 5] };
const matrix = (depth: number, kind: string) => ({
  name: `bert.encoder.layer.${depth}.${kind}.weight`,
  group: "attention",
  stack: "encoder",
  depth,
  kind,
  shape: [4, 8],
  kept: 8,
  empty_rows: 1,
  empty_columns: 0,
  density: { rows: [0, 0.5], columns: [0.25, 0.25] },
  weight: counts,
  score: counts,
  magnitude_overlap: { jaccard: 0.4, chance: 0.1, shared: 0.5 },
});

const report = {
  primary: "accuracy",
  metrics: { validation: { accuracy: 0.92, macro_f1: 0.91, interval: [0.87, 0.96] }, test: null },
  dense: { validation: { accuracy: 0.94, macro_f1: 0.935, interval: [0.9, 0.97] }, test: null },
  sparsity: { target: 0.9, reached: 0.9001 },
  params: { total: 100, nonzero: 40, trainable: 7 },
  bytes: { dense: 400, sparse: 120 },
  confusion: {
    split: "validation",
    labels: ["a", "b"],
    matrix: [
      [3, 1],
      [0, 4],
    ],
  },
  measures: {
    quality: { metric: "accuracy", splits: { validation: { difference: -0.02, difference_interval: [-0.05, 0.01] } } },
    flops: { shape: { rows: 1, tokens: 128 }, dense: { total: 1000 }, sparse: { total: 300 }, sparse_with_zeros: 990 },
    time: {
      shapes: [
        { rows: 8, tokens: 128, dense: { p50_ms: 20 }, sparse: { p50_ms: 10 }, speedup: 2, interval: [1.8, 2.2] },
      ],
    },
    trainable: { dense: 100, sparse: 7 },
    loyalty: { agreement: 0.97, agreement_interval: [0.95, 0.99], closeness: null },
    robustness: { metric: "accuracy", kinds: { typos: { dense: { value: 0.9 }, sparse: { value: 0.85 } } } },
    carbon: { kwh: 0.002, grams_co2e: 0.9 },
  },
  pictures: {
    distributions: { attention: { weight: counts, score: counts }, broken: { weight: { edges: [0] } } },
    matrices: [matrix(0, "query"), matrix(1, "query"), matrix(1, "value"), { name: "incomplete" }],
  },
  errors: {
    split: "validation",
    count: 9,
    rows: [{ row: 3, text: "hello", gold: "a", predicted: "b", dense: "a", probability: 0.8 }, {}],
  },
} as unknown as Report;

describe("a report", () => {
  it("gives the measures of both models with what is known of their spread", () => {
    const found = measuresOf(report);
    expect(found.map(({ name }) => name)).toEqual([
      "quality",
      "quality",
      "flops",
      "flopsReal",
      "trainable",
      "nonzero",
      "bytes",
      "sparsity",
      "time",
      "speedup",
      "agreement",
      "robustness",
      "energy",
      "carbon",
    ]);
    expect(found[0]).toEqual({
      name: "quality",
      of: { metric: "accuracy", split: "validation" },
      unit: "share",
      dense: { value: 0.94, interval: [0.9, 0.97] },
      sparse: { value: 0.92, interval: [0.87, 0.96] },
      difference: { value: -0.02, interval: [-0.05, 0.01] },
      differenceUnit: "points",
    });
    expect(found.find(({ name }) => name === "energy")?.sparse?.value).toBe(2);
  });

  it("gives matrices by depth and kind", () => {
    const matrices = matricesOf(report);
    expect(matrices).toHaveLength(3);
    expect(matrices[0]).toMatchObject({ density: 0.25, rows: [0, 0.5], emptyRows: 1, overlap: { jaccard: 0.4 } });
    const [grid] = gridsOf(matrices);
    expect(grid?.kinds).toEqual(["query", "value"]);
    expect(grid?.cells.map((row) => row.map((cell) => cell?.density ?? null))).toEqual([
      [0.25, null],
      [0.25, 0.25],
    ]);
    expect(distributionsOf(report).map(({ group }) => group)).toEqual(["attention"]);
  });

  it("gives the confusion", () => expect(confusionOf(report)?.matrix[1]).toEqual([0, 4]));

  it.each([{}, { metrics: 3, pictures: [], confusion: { labels: ["a"], matrix: [] } }])(
    "may lack anything: %j",
    (odd) => {
      const older = odd as unknown as Report;
      expect(measuresOf(older).filter(({ name }) => name !== "sparsity")).toEqual([]);
      expect([matricesOf(older), distributionsOf(older), confusionOf(older)]).toEqual([[], [], null]);
    },
  );
});
