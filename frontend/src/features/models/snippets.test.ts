import { describe, expect, it } from "vitest";
import { autoClass, snippets } from "./snippets";

describe("snippets", () => {
  const all = snippets("https://models.example:8443", "acme/intents", "production", "BertForSequenceClassification", [
    "sparse/model.sparse.safetensors",
  ]);

  it("name this address, this model and this revision, each of them", () => {
    expect(all.map(({ label }) => label)).toEqual(["transformers", "huggingface_hub", "pst pull", "curl"]);
    for (const { text } of all) {
      expect(text).toContain("acme/intents");
      expect(text).toContain("production");
    }
    for (const { label, text } of all) {
      expect(text).toContain(label === "pst pull" ? "pst login https://models.example:8443" : ":8443/hf");
      expect(text).toContain("YOUR_TOKEN");
    }
  });

  it("fetch the compact file where there is one", () => {
    const [, hub, pst, curl] = all.map(({ text }) => text);
    expect(hub).toContain("ignore_patterns");
    expect(pst).toContain("--compact");
    expect(curl).toContain("/hf/acme/intents/resolve/production/sparse/model.sparse.safetensors");
    const [, , , dense] = snippets("https://models.example", "base/bert", "v1", "BertModel", []);
    expect(dense?.text).toContain("resolve/v1/model.safetensors");
  });

  it("load the model with the class of its task", () => {
    expect(all[0]?.text).toContain("import AutoModelForSequenceClassification, AutoTokenizer");
    expect(
      ["GPT2LMHeadModel", "LlamaForCausalLM", "T5ForConditionalGeneration", "BertModel", ""].map(autoClass),
    ).toEqual(["AutoModelForCausalLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel", "AutoModel"]);
  });
});
