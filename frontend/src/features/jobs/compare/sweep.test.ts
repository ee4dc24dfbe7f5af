import { describe, expect, it } from "vitest";
import { sweepOf } from "./sweep";

const rung = (share: number, metric: number) => ({ share, metric, interval: [0.7, 0.9], bytes: 5, sparsity: 0.9 });
const RESULT = {
  format: "sparsewright-sweep",
  metric: "accuracy",
  search: { values: { update_rank: [4, 8, 16] } },
  trials: [
    { id: "a", values: { update_rank: 4 }, state: "stopped", rungs: [rung(0.3, 0.99)], error: null },
    { id: "b", values: { update_rank: 8 }, state: "finished", rungs: [rung(0.3, 0.7), rung(1, 0.8)], error: null },
    { id: "c", values: { update_rank: 16 }, state: "finished", rungs: [rung(0.3, 0.7), rung(1, 0.85)], error: null },
    { id: "d", values: { update_rank: 32 }, state: "failed", rungs: [], error: "The loss became nan." },
  ],
  front: ["c"],
};

describe("the result of a sweep", () => {
  it("lists whole runs first, the best of them on top", () => {
    const found = sweepOf(JSON.stringify(RESULT));
    expect(found?.trials.map(({ id }) => id)).toEqual(["c", "b", "a", "d"]);
    expect(found).toMatchObject({ metric: "accuracy", names: ["update_rank"] });
    expect(found?.trials[0]).toMatchObject({ share: 1, metric: 0.85, best: true, values: { update_rank: 16 } });
    expect(found?.trials[3]).toMatchObject({ metric: null, error: "The loss became nan.", best: false });
  });

  it("is not any other file", () => {
    expect(sweepOf("{}")).toBeNull();
    expect(sweepOf("not JSON")).toBeNull();
    expect(sweepOf("[1]")).toBeNull();
  });
});
