import { MantineProvider } from "@mantine/core";
import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import ModelCard, { isSafeLink, withoutFrontMatter } from "./ModelCard";

const rendered = (card: string) =>
  renderToStaticMarkup(
    <MantineProvider env="test">
      <ModelCard card={card} />
    </MantineProvider>,
  );

describe("a model card", () => {
  it("shows Markdown without its front matter", () => {
    const html = rendered(
      "---\nlicense: mit\n---\n# Intents\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[paper](https://example.org)\n",
    );
    expect(html).toContain("Intents</h3>");
    expect(html).toMatch(/<td[^>]*>2<\/td>/);
    expect(html).toContain('href="https://example.org"');
    expect(html).not.toContain("license");
    expect(withoutFrontMatter("no front matter\n---\n")).toBe("no front matter\n---\n");
  });

  it.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](https://example.org/track.png)",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe src='https://example.org'></iframe>",
    "[x]: javascript:alert(1)\n\n[x]",
  ])("is harmless with %s", (card) => {
    const page = rendered(card).replace(/<style[\s\S]*?<\/style>/g, "");
    expect(page).not.toMatch(/<(script|img|iframe)|href="(javascript|data)|<[^>]+\sonerror/i);
  });

  it("leads to the web alone", () => {
    expect(isSafeLink("https://example.org")).toBe(true);
    expect(["javascript:alert(1)", "data:text/html,x", "//evil", "/admin", " javascript:x"].map(isSafeLink)).toEqual(
      Array(5).fill(false),
    );
  });
});
