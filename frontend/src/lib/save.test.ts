import { describe, expect, it } from "vitest";
import { csv, fileName } from "./save";

describe("exports", () => {
  it("quote what CSV needs quoted and defuse formulas", () => {
    expect(
      csv([
        ["a,b", 'say "x"', null, -1.5],
        ["=1+1", "line\nbreak", "plain", 0],
      ]),
    ).toBe('"a,b","say ""x""",,-1.5\r\n\'=1+1,"line\nbreak",plain,0\r\n');
  });

  it("are named after what they show", () => {
    expect(fileName("Accuracy (test)")).toBe("accuracy-test");
    expect(fileName("准确率(测试集)")).toBe("准确率-测试集");
    expect(fileName("…")).toBe("chart");
  });
});
