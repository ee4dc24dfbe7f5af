export interface Snippet {
  label: string;
  text: string;
}

/** Stands for the secret in every snippet. */
export const TOKEN = "YOUR_TOKEN";

/** What comes before any other `pst` command. */
export function asTerminal(origin: string): string[] {
  return [
    `export SPARSEWRIGHT_TOKEN="${TOKEN}"`,
    "# pst lies in .venv/bin of the platform's folder, or comes with: pip install ./workers",
    `pst login ${origin} --token "$SPARSEWRIGHT_TOKEN"`,
  ];
}

/** Copy-ready ways to ask a deployment, whose name is workspace/deployment. */
export function askSnippets(origin: string, id: string, name: string): Snippet[] {
  const url = `${origin}/api/v1/deployments/${id}/predict`;
  return [
    {
      label: "curl",
      text: [
        `export SPARSEWRIGHT_TOKEN="${TOKEN}"`,
        'curl -f -H "Authorization: Bearer $SPARSEWRIGHT_TOKEN" -H "Content-Type: application/json" \\',
        `  -d '{"inputs": [{"text": "a text"}]}' ${url}`,
      ].join("\n"),
    },
    {
      label: "Python",
      text: [
        "import json, urllib.request",
        "request = urllib.request.Request(",
        `    "${url}",`,
        '    data=json.dumps({"inputs": [{"text": "a text"}]}).encode(),',
        `    headers={"Authorization": "Bearer ${TOKEN}", "Content-Type": "application/json"},`,
        ")",
        'print(json.load(urllib.request.urlopen(request))["predictions"])',
      ].join("\n"),
    },
    { label: "pst predict", text: [...asTerminal(origin), `pst predict ${name} "a text"`].join("\n") },
  ];
}
