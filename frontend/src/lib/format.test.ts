import { describe, expect, it } from "vitest";
import { bytes, compact, count, duration, percent, real } from "./format";

describe("numbers", () => {
  it.each([
    [0, "0"],
    [22_713_216, "22,713,216"],
    [null, "–"],
    [Number.NaN, "–"],
  ])("count(%s)", (value, text) => expect(count(value)).toBe(text));

  it.each([
    [999, "999"],
    [1_000, "1.0 k"],
    [22_713_216, "22.7 M"],
    [135_000_000, "135 M"],
    [7_200_000_000, "7.2 G"],
  ])("compact(%s)", (value, text) => expect(compact(value)).toBe(text));

  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_500, "1.5 kB"],
    [90_861_234, "90.9 MB"],
    [undefined, "–"],
  ])("bytes(%s)", (value, text) => expect(bytes(value)).toBe(text));

  it("shows shares as percent", () => {
    expect(percent(0.8972)).toBe("89.7 %");
    expect(percent(0.9, 0)).toBe("90 %");
    expect(percent(undefined)).toBe("–");
  });

  it.each([
    [0.00098, "0.00098"],
    [1.23456, "1.235"],
    [0, "0"],
  ])("real(%s)", (value, text) => expect(real(value)).toBe(text));
});

describe("durations", () => {
  it.each([
    [0, "0.0 s"],
    [9.94, "9.9 s"],
    [9.96, "10 s"],
    [59.6, "1 min 0 s"],
    [61, "1 min 1 s"],
    [3_599.7, "1 h 0 min"],
    [3_725, "1 h 2 min"],
    [200_000, "2 d 8 h"],
    [null, "–"],
  ])("duration(%s)", (value, text) => expect(duration(value)).toBe(text));
});
