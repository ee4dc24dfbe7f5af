import { describe, expect, it, vi } from "vitest";

// uPlot reads the window when it is loaded; only the arithmetic is of interest here.
vi.mock("uplot", () => ({ default: {} }));
const { zoomed } = await import("./zoom");

describe("zooming", () => {
  it("keeps the point under the pointer and stays within the data", () => {
    expect(zoomed([0, 100], [0, 100], 0.5, 50)).toEqual([25, 75]);
    expect(zoomed([0, 100], [0, 100], 0.5, 0)).toEqual([0, 50]);
    expect(zoomed([25, 75], [0, 100], 4, 50)).toEqual([0, 100]);
    expect(zoomed([10, 20], [0, 100], 0, 15)).toEqual([10, 20]);
  });
});
