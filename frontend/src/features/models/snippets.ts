import { asTerminal, type Snippet, TOKEN } from "@/lib/asking";

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

/** Copy-ready ways to fetch a version from here, each whole: only the token is to be filled in. `compact` are the paths of
 * the compact file's weights; where there are none, such as in a base model, the dense ones are fetched. */
export function snippets(
  origin: string,
  repo: string,
  revision: string,
  architecture: string,
  compact: string[],
): Snippet[] {
  const auto = autoClass(architecture);
  const small = compact.length > 0;
  const files = small ? compact : ["model.safetensors"];
  return [
    {
      label: "transformers",
      text: [
        "import os",
        `os.environ.update(HF_ENDPOINT="${origin}/hf", HF_TOKEN="${TOKEN}")`,
        `from transformers import ${auto}, AutoTokenizer`,
        `model = ${auto}.from_pretrained("${repo}", revision="${revision}")`,
        `tokenizer = AutoTokenizer.from_pretrained("${repo}", revision="${revision}")`,
      ].join("\n"),
    },
    {
      label: "huggingface_hub",
      text: [
        "from huggingface_hub import snapshot_download",
        "folder = snapshot_download(",
        `    "${repo}", revision="${revision}",`,
        `    endpoint="${origin}/hf", token="${TOKEN}",`,
        ...(small ? ['    ignore_patterns=["model*.safetensors"],  # the dense weights'] : []),
        ")",
        "print(folder)",
      ].join("\n"),
    },
    {
      label: "pst pull",
      text: [
        ...asTerminal(origin),
        `pst pull ${repo}@${revision} ${repo.split("/")[1] ?? "model"}${small ? " --compact" : ""}`,
      ].join("\n"),
    },
    {
      label: "curl",
      text: [
        `export SPARSEWRIGHT_TOKEN="${TOKEN}"`,
        ...files.map(
          (path) =>
            `curl -fLO -H "Authorization: Bearer $SPARSEWRIGHT_TOKEN" ${origin}/hf/${repo}/resolve/${revision}/${path}`,
        ),
      ].join("\n"),
    },
  ];
}
