import { describe, expect, it } from "vitest";
import { channels, front, mix, ticks } from "./draw";

describe("colours", () => {
  it("are mixed channel by channel", () => {
    expect(channels("#0b7285")).toEqual([11, 114, 133]);
    expect(mix("#000000", "#ffffff", 0.5)).toBe("rgb(128, 128, 128)");
    expect(mix("#000000", "#ffffff", 7)).toBe("rgb(255, 255, 255)");
  });
});

describe("ticks", () => {
  it("are round and inside", () => {
    expect(ticks(0, 1, 4)).toEqual([0, 0.5, 1]);
    expect(ticks(-0.13, 0.11, 4)).toEqual([-0.1, 0, 0.1]);
    expect(ticks(3, 3, 4)).toEqual([3]);
  });
});

describe("the Pareto front", () => {
  it("keeps what no other beats in both", () => {
    const points = [
      { name: "small", cost: 1, value: 0.7 },
      { name: "worse and larger", cost: 2, value: 0.6 },
      { name: "middle", cost: 3, value: 0.9 },
      { name: "as good, larger", cost: 4, value: 0.9 },
      { name: "same cost, worse", cost: 3, value: 0.8 },
      { name: "best", cost: 9, value: 0.95 },
    ];
    expect(front(points).map(({ name }) => name)).toEqual(["small", "middle", "best"]);
    expect(front([])).toEqual([]);
  });
});
