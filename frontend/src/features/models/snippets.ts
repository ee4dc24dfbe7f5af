const AUTO = {
  ForSequenceClassification: "AutoModelForSequenceClassification",
  ForCausalLM: "AutoModelForCausalLM",
  LMHeadModel: "AutoModelForCausalLM",
  ForConditionalGeneration: "AutoModelForSeq2SeqLM",
};

/** The class of transformers that loads an architecture, such as T5ForConditionalGeneration. */
export function autoClass(architecture: string): string {
  return Object.entries(AUTO).find(([ending]) => architecture.endsWith(ending))?.[1] ?? "AutoModel";
}

/** Copy-ready ways to fetch a version from here. The secret is never part of them: it is read from the environment. */
export function snippets(
  origin: string,
  repo: string,
  revision: string,
  architecture: string,
): { label: string; text: string }[] {
  const auto = autoClass(architecture);
  return [
    {
      label: "transformers",
      text: [
        `# HF_ENDPOINT=${origin}/hf  HF_TOKEN=<your token>`,
        `from transformers import ${auto}, AutoTokenizer`,
        `model = ${auto}.from_pretrained("${repo}", revision="${revision}")`,
        `tokenizer = AutoTokenizer.from_pretrained("${repo}", revision="${revision}")`,
      ].join("\n"),
    },
    {
      label: "huggingface_hub",
      text: [
        "import os",
        "from huggingface_hub import snapshot_download",
        "folder = snapshot_download(",
        `    "${repo}", revision="${revision}",`,
        `    endpoint="${origin}/hf", token=os.environ["SPARSEWRIGHT_TOKEN"],`,
        ")",
      ].join("\n"),
    },
    { label: "pst pull", text: `pst pull ${repo}@${revision} ${repo.split("/")[1] ?? "model"}` },
    {
      label: "curl",
      text: [
        'curl -H "Authorization: Bearer $SPARSEWRIGHT_TOKEN" -LO \\',
        `  ${origin}/hf/${repo}/resolve/${revision}/model.safetensors`,
      ].join("\n"),
    },
  ];
}
