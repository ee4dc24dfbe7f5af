import { describe, expect, it } from "vitest";
import { snippets } from "./snippets";

describe("snippets", () => {
  const all = snippets("https://models.example:8443", "acme/intents", "production");

  it("name this address, this model and this revision, each of them", () => {
    expect(all.map(({ label }) => label)).toEqual(["transformers", "huggingface_hub", "pst pull", "curl"]);
    for (const { text } of all) {
      expect(text).toContain("acme/intents");
      expect(text).toContain("production");
    }
    for (const { label, text } of all) {
      if (label !== "pst pull") expect(text).toContain("https://models.example:8443/hf");
    }
  });
});
