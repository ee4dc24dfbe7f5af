import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const SOURCE = import.meta.dirname;

/** What each folder may import of the others; a feature imports no other feature, and nobody imports the app. */
const MAY: Record<string, string[]> = {
  lib: [],
  i18n: [],
  api: [],
  session: ["api"],
  components: ["api", "i18n", "lib", "session"],
  features: ["api", "components", "i18n", "lib", "session"],
  testing: ["api", "app", "i18n"], // of tests alone
  app: ["api", "components", "features", "i18n", "lib", "session"],
};

/** What the rooms of a feature have in common; apart from that, none imports another. */
const SHARED = "measures";

/** The imports of `path` (relative to src, with forward slashes) that break the rule, as sentences. */
function broken(path: string, code: string): string[] {
  const [folder = "", feature = ""] = path.split("/");
  const may = MAY[folder];
  if (!may) return [];
  const found: string[] = [];
  for (const [, target = ""] of code.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
    if (target.startsWith("..")) found.push(`${path}: write ${target} with @/`);
    if (!target.startsWith("@/")) continue;
    const [to = "", other] = target.slice(2).split("/");
    if (to === "testing" && path.includes(".test.")) continue;
    const own = to === folder && (folder !== "features" || other === feature);
    if (!own && !may.includes(to)) found.push(`${path} may not import ${target}`);
    const [from, into] = [path.split("/")[3] && path.split("/")[2], target.split("/")[4] && target.split("/")[3]];
    if (from && into && from !== into && into !== SHARED) found.push(`${path} may not import ${target}`);
  }
  return found;
}

const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => /\.tsx?$/.test(path));

describe("the layers of the frontend", () => {
  it("hold", () => {
    expect(files.length).toBeGreaterThan(40);
    expect(files.flatMap((path) => broken(path, readFileSync(join(SOURCE, path), "utf8")))).toEqual([]);
  });

  it.each([
    ["features/jobs/Log.tsx", 'import { Rows } from "@/features/datasets/Rows";'],
    ["features/jobs/Log.tsx", 'import { Rows } from "../datasets/Rows";'],
    ["features/jobs/Log.tsx", 'const page = () => import("@/app/Shell");'],
    ["components/Page.tsx", 'import { Rows } from "@/features/datasets/Rows";'],
    ["features/jobs/report/read.ts", 'import { differing } from "@/features/jobs/compare/compare";'],
    ["features/jobs/Log.tsx", 'import { serve } from "@/testing/server";'],
    ["lib/format.ts", 'import { api } from "@/api/client";'],
  ])("would be seen broken in %s by %s", (path, code) => expect(broken(path, code)).toHaveLength(1));

  it("let a feature import itself and what lies below", () => {
    const code =
      'import { a } from "./record";\nimport { b } from "@/features/jobs/card";\nimport { c } from "@/lib/format";';
    expect(broken("features/jobs/Log.tsx", code)).toEqual([]);
  });
});

describe("the Content-Security-Policy", () => {
  it("finds no inline script and no handler in the page", () => {
    const page = readFileSync(join(SOURCE, "..", "index.html"), "utf8");
    expect(page.match(/<script(?![^>]*\ssrc=)[^>]*>/g)).toBeNull();
    expect(page.match(/\son\w+=/g)).toBeNull();
  });
});
