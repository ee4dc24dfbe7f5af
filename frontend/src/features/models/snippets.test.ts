import { describe, expect, it } from "vitest";
import { autoClass, snippets } from "./snippets";

describe("snippets", () => {
  const all = snippets("https://models.example:8443", "acme/intents", "production", "BertForSequenceClassification");

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

  it("load the model with the class of its task", () => {
    expect(all[0]?.text).toContain("import AutoModelForSequenceClassification, AutoTokenizer");
    expect(
      ["GPT2LMHeadModel", "LlamaForCausalLM", "T5ForConditionalGeneration", "BertModel", ""].map(autoClass),
    ).toEqual(["AutoModelForCausalLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel", "AutoModel"]);
  });
});
