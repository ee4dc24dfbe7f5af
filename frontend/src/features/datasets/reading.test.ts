import { describe, expect, it } from "vitest";
import { AUTOMATIC, beginning, readingFields, stem } from "./reading";

describe("reading options", () => {
  it("sends nothing that the platform shall find itself", () => {
    expect(readingFields(AUTOMATIC)).toEqual([]);
    expect(readingFields({ ...AUTOMATIC, delimiter: "tab", text_column: "body" })).toEqual([
      ["delimiter", "tab"],
      ["text_column", "body"],
    ]);
  });

  it("takes a name from a file name", () => {
    expect(stem("reviews.final.csv")).toBe("reviews.final");
    expect(stem("rows")).toBe("rows");
    expect(stem(".csv")).toBe(".csv");
  });
});

describe("the part of a file that is sent for a preview", () => {
  const line = "a line of some length, for a file of more than two mebibytes\n";
  const big = line.repeat(50_000);

  it("is the whole of a small file and of JSON", async () => {
    const small = new File(["text,label\nhello,a\n"], "rows.csv");
    expect(await beginning(small)).toBe(small);
    const json = new File([`[${big}]`], "rows.json");
    expect(await beginning(json)).toBe(json);
  });

  it("ends at a line's end", async () => {
    const text = await (await beginning(new File([big], "rows.csv"))).text();
    expect(text.length).toBeLessThan(big.length);
    expect(text.endsWith(line)).toBe(true);
  });

  it.each(["le", "be"])("ends at a whole character of UTF-16 %s", async (order) => {
    const units = new Uint16Array([...`\ufeff${big.slice(0, 1_500_000)}`].map((char) => char.charCodeAt(0)));
    const data = new Uint8Array(units.buffer);
    if (order === "be") for (let at = 0; at < data.length; at += 2) data.subarray(at, at + 2).reverse();
    const part = await (await beginning(new File([data], "rows.csv"))).arrayBuffer();
    expect(part.byteLength).toBeLessThan(data.length);
    expect(new TextDecoder(`utf-16${order}`).decode(part).endsWith(line)).toBe(true);
  });
});
