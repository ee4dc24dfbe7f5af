import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import settings from "@/api/settings.json";
import { preferred } from "@/i18n";
import en from "@/i18n/en.json";
import ownSettings from "@/i18n/settings.zh-CN.json";
import zh from "@/i18n/zh-CN.json";

const SOURCE = import.meta.dirname;

function flat(tree: object, above = ""): [string, string][] {
  return Object.entries(tree).flatMap(([name, value]) =>
    typeof value === "string" ? [[above + name, value] as [string, string]] : flat(value, `${above}${name}.`),
  );
}

/** Names that are the same in every language. */
const NAMES = ["method.wanda", "audit.action_example", "audit.object_type_example"];

/** Chinese has one form for every number, so it needs no `_one`. */
const english = new Map(flat(en).filter(([key]) => !key.endsWith("_one")));
const chinese = new Map(flat(zh));
const holes = (text: string) => [...new Set(text.match(/\{\{\w+\}\}/g))].sort();

describe("the Chinese texts", () => {
  it("are there for every English one, and for nothing else", () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it("name the same values", () => {
    const different = [...english].filter(([key, text]) => holes(text).join() !== holes(chinese.get(key) ?? "").join());
    expect(different).toEqual([]);
  });

  it("are Chinese", () => {
    const same = [...english].filter(([key, text]) => chinese.get(key) === text && /[a-z]{3,}/.test(bare(text)));
    expect(same.map(([key]) => key).filter((key) => !NAMES.includes(key))).toEqual([]);
  });

  it("explain every training setting", () => {
    expect(Object.keys(ownSettings).sort()).toEqual(settings.map(({ name }) => name).sort());
  });
});

const bare = (text: string) => text.replace(/\{\{\w+\}\}/g, "");

describe("the first language", () => {
  it("is the chosen one, else the browser's", () => {
    expect(preferred("zh-CN", ["en-GB"])).toBe("zh-CN");
    expect(preferred("en", ["zh-TW"])).toBe("en");
    expect(preferred(null, ["zh-TW", "en"])).toBe("zh-CN");
    expect(preferred("klingon", ["de", "zh"])).toBe("en");
    expect(preferred(null, [])).toBe("en");
  });
});

const SPOKEN = ["label", "title", "placeholder", "aria-label", "description", "alt", "text", "note", "question"];
/** Names, and what has to be typed as it stands. */
const ALLOWED = ["PNG", "curl", "pst submit", "Sparsewright", "sha256", "owner/name@revision", "default"];

/** Text that a reader would see or hear and that no language file can change. */
function literals(path: string, code: string): string[] {
  const found: string[] = [];
  const english = (text: string) =>
    /[A-Za-z]{2,}/.test(text.replace(/&\w+;/g, "")) && !ALLOWED.includes(text.trim()) && found.push(`${path}: ${text}`);
  const visit = (node: ts.Node): void => {
    if (ts.isJsxText(node)) english(node.text.trim());
    if (ts.isJsxAttribute(node) && SPOKEN.includes(node.name.getText()) && node.initializer) {
      if (ts.isStringLiteral(node.initializer)) english(node.initializer.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, code, ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX));
  return found;
}

describe("the pages", () => {
  it("hold no text of their own", () => {
    const pages = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".tsx"));
    expect(pages.length).toBeGreaterThan(40);
    expect(pages.flatMap((path) => literals(path, readFileSync(join(SOURCE, path), "utf8")))).toEqual([]);
  });

  it.each(["<p>Hello there</p>", '<Button aria-label="Close">{x}</Button>', "<b>{a} rows</b>"])(
    "would be seen to in %s",
    (code) => expect(literals("page.tsx", code)).toHaveLength(1),
  );
});
