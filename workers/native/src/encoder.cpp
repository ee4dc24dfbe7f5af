// Whole encoders: token ids in, logits out. One call runs all layers on the pool's threads, stage by stage; texts of
// different length lie behind each other without padding. Post-norm layers as in BERT (Devlin et al. 2019) and what
// follows it: RoBERTa, DistilBERT, ELECTRA, MPNet.
#include <initializer_list>

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "pool.h"

// What the caller describes; weights, tables and matrices stay the caller's and must outlive the encoder.
struct Map {
  const Matrix* weight;
  const float* bias;  // may be null
};
struct Norm {
  const float *weight, *bias;
};
struct Layer {
  Map query, key, value, output, up, down;
  Norm attention_norm, output_norm;
  int32_t heads;
  int32_t padding;
};
struct Encoder {
  int32_t layers, hidden, width;  // width: of the embeddings
  int32_t head, vocabulary, positions, types, first_position;
  int32_t activation, words_precision, labels, head_activation;
  float epsilon;
  int32_t fast_attention;
  int32_t padding_id, spare;  // a token that takes the position before the first and is not counted, or -1
  const void* words;          // [vocabulary][width]: float32, bfloat16 or int8
  const float* words_scales;  // [vocabulary], of int8
  const float* position_table;  // [positions][width]
  const float* type_table;      // [types][width] or null
  Norm embedding_norm;
  Map projection;  // (hidden, width), or without a weight
  const float* relative_bias;  // [heads of a layer][2 positions - 1], by key minus query, or null
  const Layer* layer;
  Map dense, classifier;  // the head: classifier(act(dense(first token))); dense may be without a weight
};

namespace {

constexpr int PANELS = 4;
constexpr int TOKENS = LANES;  // of one task of what goes by tokens

struct Panels {
  Panel of[PANELS];
};

int slot(const Matrix* w) { return w->form == TILES ? 3 : w->precision; }

struct Run {
  const Encoder* model;
  const Kernels* kernels;
  Pool* pool;
  const int32_t *ids, *types, *offsets;
  int texts, tokens;
  float* logits;
  float *x, *y, *query, *key, *value, *context, *middle, *first, *first_context, *pooled;
  Panels inputs, contexts, middles;
  int* counters;
  size_t scratch_stride;
  uint8_t* scratch;
  int stage;  // of the thread that asks: each has its own copy of Run
};

// Rows of a buffer begin a cache line apart from a power of two: else a column of tokens shares few sets of the cache.
int64_t stride_of(int width) { return (width + LANES - 1) / LANES * LANES + LANES; }

// Tasks of a stage are taken by whoever is free.
template <class Body>
void stage(Run& run, int count, Body body) {
  int* next = &run.counters[run.stage++];
  for (int task; (task = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < count;) body(task);
  pool_barrier(run.pool);
}

// Packs tokens [first, last) of x (tokens, k), whose rows are stride_of(k) apart, for every product that will read them.
void pack_all(const Run& run, const Panels& panels, const float* x, int k, int tokens, int first, int last) {
  for (const Panel& panel : panels.of)
    if (panel.data) {
      Panel narrowed = panel;
      narrowed.t = tokens;
      narrowed.k = k;
      run.kernels->pack(&narrowed, x, stride_of(k), first, last);
    }
}

void product(const Run& run, const Map& map, const Panels& panels, int tokens, const float* residual, int64_t residual_stride,
             float* out, int64_t out_stride, int activation, int task, uint8_t* scratch) {
  Panel panel = panels.of[slot(map.weight)];
  panel.t = tokens;
  panel.k = map.weight->k;
  const Finish finish = {map.bias, residual, out, activation, residual_stride, out_stride};
  run.kernels->product(map.weight, &panel, &finish, task, scratch);
}

float word(const Encoder& model, int id, int column) {
  const size_t at = (size_t)id * model.width + column;
  if (model.words_precision == FLOAT32) return ((const float*)model.words)[at];
  if (model.words_precision == INT8) return ((const int8_t*)model.words)[at] * model.words_scales[id];
  const uint32_t bits = (uint32_t)((const uint16_t*)model.words)[at] << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

void embed(const Run& run, int first, int last, float* x) {
  const Encoder& model = *run.model;
  int text = 0;
  while (run.offsets[text + 1] <= first) text++;
  int counted = 0;
  const auto counts = [&](int token) { return run.ids[token] != model.padding_id; };
  for (int token = run.offsets[text]; token < first; token++) counted += counts(token);
  for (int token = first; token < last; token++) {
    while (run.offsets[text + 1] <= token) {
      text++;
      counted = 0;
    }
    float* row = x + token * stride_of(model.width);
    const int place = counts(token) ? model.first_position + counted++ : model.first_position - 1;
    const float* position = model.position_table + (size_t)place * model.width;
    const float* type = model.type_table ? model.type_table + (size_t)(run.types ? run.types[token] : 0) * model.width : nullptr;
    for (int i = 0; i < model.width; i++) row[i] = word(model, run.ids[token], i) + position[i] + (type ? type[i] : 0);
  }
  run.kernels->layer_norm(x, stride_of(model.width), model.width, first, last, model.embedding_norm.weight, model.embedding_norm.bias, model.epsilon);
}

struct Heads {
  int text, head, first, last;
};

// Attention's tasks: a head of a text, its queries by blocks so that one long text keeps all threads busy.
constexpr int QUERIES = 128;
int attention_tasks(const Run& run, int heads) {
  int count = 0;
  for (int text = 0; text < run.texts; text++) count += (run.offsets[text + 1] - run.offsets[text] + QUERIES - 1) / QUERIES;
  return count * heads;
}
Heads attention_task(const Run& run, int heads, int task) {
  const int head = task % heads;
  int block = task / heads;
  for (int text = 0;; text++) {
    const int length = run.offsets[text + 1] - run.offsets[text], blocks = (length + QUERIES - 1) / QUERIES;
    if (block < blocks) return {text, head, block * QUERIES, (block + 1) * QUERIES < length ? (block + 1) * QUERIES : length};
    block -= blocks;
  }
}

void attend(const Run& run, const Layer& layer, const float* query, const Heads& task, float* out) {
  const Encoder& model = *run.model;
  const int64_t stride = stride_of(layer.heads * model.head);
  const int start = run.offsets[task.text], length = run.offsets[task.text + 1] - start;
  const size_t at = start * stride + task.head * model.head;
  // bias[query][key] = table[key - query]: a stride of -1 from the table's middle.
  const float* bias = model.relative_bias ? model.relative_bias + (size_t)task.head * (2 * model.positions - 1) + model.positions - 1 : nullptr;
  float* scratch = (float*)(run.scratch);
  const auto with = model.fast_attention && run.kernels->attention_fast ? run.kernels->attention_fast : run.kernels->attention;
  with(query, run.key + at, run.value + at, stride, out, stride, length, task.first, task.last, model.head,
       1.0f / __builtin_sqrtf((float)model.head), bias, -1, scratch);
}

void body(void* context, int thread) {
  Run run = *(Run*)context;
  run.scratch += run.scratch_stride * thread;
  run.kernels->prepare();
  const Encoder& model = *run.model;
  const int blocks = (run.tokens + TOKENS - 1) / TOKENS;
  const int64_t hidden = stride_of(model.hidden);
  uint8_t* scratch = run.scratch;
  const auto end = [](int block, int count) { return (block + 1) * TOKENS < count ? (block + 1) * TOKENS : count; };

  stage(run, blocks, [&](int block) {
    float* x = model.projection.weight ? run.middle : run.x;
    embed(run, block * TOKENS, end(block, run.tokens), x);
    pack_all(run, model.projection.weight ? run.middles : run.inputs, x, model.width, run.tokens, block * TOKENS, end(block, run.tokens));
  });
  if (model.projection.weight) {
    stage(run, task_count(model.projection.weight), [&](int task) {
      product(run, model.projection, run.middles, run.tokens, nullptr, 0, run.x, hidden, NONE, task, scratch);
    });
    stage(run, blocks, [&](int block) { pack_all(run, run.inputs, run.x, model.hidden, run.tokens, block * TOKENS, end(block, run.tokens)); });
  }

  for (int index = 0; index < model.layers; index++) {
    const Layer& layer = model.layer[index];
    const int64_t inner = stride_of(layer.heads * model.head), middle = stride_of(layer.up.weight->n);
    const bool last = index + 1 == model.layers;
    // Of the last layer only the first token of each text is asked for: its keys and values are everybody's.
    const int rows = last ? run.texts : run.tokens, row_blocks = (rows + TOKENS - 1) / TOKENS;
    float* x = run.x;
    const int q = last ? 0 : task_count(layer.query.weight), k = task_count(layer.key.weight), v = task_count(layer.value.weight);
    stage(run, q + k + v, [&](int task) {
      if (task < q) product(run, layer.query, run.inputs, run.tokens, nullptr, 0, run.query, inner, NONE, task, scratch);
      else if (task < q + k) product(run, layer.key, run.inputs, run.tokens, nullptr, 0, run.key, inner, NONE, task - q, scratch);
      else product(run, layer.value, run.inputs, run.tokens, nullptr, 0, run.value, inner, NONE, task - q - k, scratch);
    });
    if (last) {
      stage(run, row_blocks, [&](int block) {
        for (int text = block * TOKENS; text < end(block, rows); text++)
          memcpy(run.first + text * hidden, run.x + run.offsets[text] * hidden, model.hidden * sizeof(float));
        pack_all(run, run.inputs, run.first, model.hidden, rows, block * TOKENS, end(block, rows));
      });
      x = run.first;
      stage(run, task_count(layer.query.weight), [&](int task) {
        product(run, layer.query, run.inputs, rows, nullptr, 0, run.query, inner, NONE, task, scratch);
      });
      stage(run, run.texts * layer.heads, [&](int task) {
        const Heads one = {task / layer.heads, task % layer.heads, 0, 1};
        const size_t at = one.text * inner + one.head * model.head;
        attend(run, layer, run.query + at, one, run.context + at);
      });
    } else {
      stage(run, attention_tasks(run, layer.heads), [&](int task) {
        const Heads one = attention_task(run, layer.heads, task);
        const size_t at = run.offsets[one.text] * inner + one.head * model.head;
        attend(run, layer, run.query + at, one, run.context + at);
      });
    }
    stage(run, row_blocks, [&](int block) { pack_all(run, run.contexts, run.context, layer.heads * model.head, rows, block * TOKENS, end(block, rows)); });
    stage(run, task_count(layer.output.weight), [&](int task) {
      product(run, layer.output, run.contexts, rows, x, hidden, run.y, hidden, NONE, task, scratch);
    });
    stage(run, row_blocks, [&](int block) {
      const int first = block * TOKENS, to = end(block, rows);
      run.kernels->layer_norm(run.y, hidden, model.hidden, first, to, layer.attention_norm.weight, layer.attention_norm.bias, model.epsilon);
      pack_all(run, run.inputs, run.y, model.hidden, rows, first, to);
    });
    stage(run, task_count(layer.up.weight), [&](int task) {
      product(run, layer.up, run.inputs, rows, nullptr, 0, run.middle, middle, model.activation, task, scratch);
    });
    stage(run, row_blocks, [&](int block) { pack_all(run, run.middles, run.middle, layer.up.weight->n, rows, block * TOKENS, end(block, rows)); });
    stage(run, task_count(layer.down.weight), [&](int task) {
      product(run, layer.down, run.middles, rows, run.y, hidden, x, hidden, NONE, task, scratch);
    });
    stage(run, row_blocks, [&](int block) {
      const int first = block * TOKENS, to = end(block, rows);
      run.kernels->layer_norm(x, hidden, model.hidden, first, to, layer.output_norm.weight, layer.output_norm.bias, model.epsilon);
      pack_all(run, run.inputs, x, model.hidden, rows, first, to);
    });
  }

  const int rows = run.texts, row_blocks = (rows + TOKENS - 1) / TOKENS;
  if (model.dense.weight) {
    const int64_t width = stride_of(model.dense.weight->n);
    stage(run, task_count(model.dense.weight), [&](int task) {
      product(run, model.dense, run.inputs, rows, nullptr, 0, run.pooled, width, model.head_activation, task, scratch);
    });
    stage(run, row_blocks, [&](int block) { pack_all(run, run.contexts, run.pooled, model.dense.weight->n, rows, block * TOKENS, end(block, rows)); });
  }
  stage(run, task_count(model.classifier.weight), [&](int task) {
    product(run, model.classifier, model.dense.weight ? run.contexts : run.inputs, rows, nullptr, 0, run.logits, model.labels, NONE, task, scratch);
  });
}

constexpr size_t ALIGN = 64;
size_t rounded(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

// Hands out parts of one block of memory; without a block, only counts.
struct Arena {
  uint8_t* base;
  size_t used;
  template <class T>
  T* take(size_t count) {
    uint8_t* at = base ? base + used : nullptr;
    used += rounded(count * sizeof(T));
    return (T*)at;
  }
};

void want(bool (&wanted)[PANELS], int& k, const Map& map) {
  if (!map.weight) return;
  wanted[slot(map.weight)] = true;
  k = map.weight->k > k ? map.weight->k : k;
}

void lay_panels(Arena& arena, Panels& panels, const bool (&wanted)[PANELS], int tokens, int k) {
  for (int i = 0; i < PANELS; i++) {
    const int form = i == 3 ? TILES : CELLS, precision = i == 3 ? INT8 : i;
    uint8_t* data = wanted[i] ? arena.take<uint8_t>(panel_bytes(form, precision, tokens, k)) : nullptr;
    float* scales = wanted[i] ? arena.take<float>(tokens) : nullptr;
    panels.of[i] = {form, precision, tokens, k, data, scales};
  }
}

// All buffers of a run.
void lay(Arena& arena, Run& run, int threads, int longest) {
  const Encoder& model = *run.model;
  bool inputs[PANELS] = {}, contexts[PANELS] = {}, middles[PANELS] = {};
  int input_k = 0, context_k = 0, middle_k = 0, inner = 0, middle = model.width;
  size_t scratch = 0;
  const auto need = [&](const Map& map) {
    if (!map.weight) return;
    const size_t bytes = scratch_bytes(map.weight, run.tokens);
    scratch = bytes > scratch ? bytes : scratch;
  };
  want(middles, middle_k, model.projection);
  need(model.projection);
  for (int i = 0; i < model.layers; i++) {
    const Layer& layer = model.layer[i];
    for (const Map* map : {&layer.query, &layer.key, &layer.value, &layer.up}) want(inputs, input_k, *map);
    want(contexts, context_k, layer.output);
    want(middles, middle_k, layer.down);
    for (const Map* map : {&layer.query, &layer.key, &layer.value, &layer.output, &layer.up, &layer.down}) need(*map);
    inner = layer.heads * model.head > inner ? layer.heads * model.head : inner;
    middle = layer.up.weight->n > middle ? layer.up.weight->n : middle;
  }
  want(inputs, input_k, model.dense);
  need(model.dense);
  want(model.dense.weight ? contexts : inputs, model.dense.weight ? context_k : input_k, model.classifier);
  need(model.classifier);
  const size_t attention = attention_bytes(model.head, longest);
  run.scratch_stride = rounded(attention > scratch ? attention : scratch);

  const size_t tokens = run.tokens;
  run.counters = arena.take<int>(16 + 16 * (size_t)model.layers);
  run.x = arena.take<float>(tokens * stride_of(model.hidden));
  run.y = arena.take<float>(tokens * stride_of(model.hidden));
  run.query = arena.take<float>(tokens * stride_of(inner));
  run.key = arena.take<float>(tokens * stride_of(inner));
  run.value = arena.take<float>(tokens * stride_of(inner));
  run.context = arena.take<float>(tokens * stride_of(inner));
  run.middle = arena.take<float>(tokens * stride_of(middle));
  run.first = arena.take<float>(run.texts * stride_of(model.hidden));
  run.pooled = arena.take<float>(run.texts * stride_of(model.dense.weight ? model.dense.weight->n : 1));
  lay_panels(arena, run.inputs, inputs, run.tokens, input_k);
  lay_panels(arena, run.contexts, contexts, run.tokens, context_k);
  lay_panels(arena, run.middles, middles, run.tokens, middle_k);
  run.scratch = arena.take<uint8_t>(run.scratch_stride * threads);
}

}  // namespace

// Whether the maps' sizes fit each other.
SW_API bool sw_encoder_fits(const Encoder* model) {
  for (int i = 0; i < model->layers; i++) {
    const Layer& layer = model->layer[i];
    const int inner = layer.heads * model->head;
    for (const Map* map : {&layer.query, &layer.key, &layer.value})
      if (!map->weight || map->weight->k != model->hidden || map->weight->n != inner) return false;
    if (!layer.output.weight || layer.output.weight->k != inner || layer.output.weight->n != model->hidden) return false;
    if (!layer.up.weight || layer.up.weight->k != model->hidden) return false;
    if (!layer.down.weight || layer.down.weight->k != layer.up.weight->n || layer.down.weight->n != model->hidden) return false;
  }
  const Map &projection = model->projection, &dense = model->dense, &classifier = model->classifier;
  if (projection.weight ? projection.weight->n != model->hidden || projection.weight->k != model->width : model->width != model->hidden) return false;
  if (dense.weight && dense.weight->k != model->hidden) return false;
  return classifier.weight && classifier.weight->n == model->labels && classifier.weight->k == (dense.weight ? dense.weight->n : model->hidden);
}

// Bytes that a run of so many tokens in so many texts needs beside the weights.
SW_API int64_t sw_workspace_bytes(const Encoder* model, int texts, int tokens, int longest, int threads) {
  Run run = {};
  run.model = model;
  run.texts = texts;
  run.tokens = tokens;
  Arena arena = {nullptr, 0};
  lay(arena, run, threads, longest);
  return (int64_t)arena.used;
}

// Logits [texts][labels] of texts with ids [offsets[i], offsets[i + 1]). `types` may be null. `workspace` has
// sw_workspace_bytes and is aligned to 64. Returns false where an id, a type or a length is none of the model's.
SW_API bool sw_encoder_run(const Encoder* model, const int32_t* ids, const int32_t* types, const int32_t* offsets, int texts,
                           int threads, void* workspace, float* logits) {
  Run run = {};
  run.model = model;
  run.kernels = chosen_kernels();
  run.ids = ids;
  run.types = types;
  run.offsets = offsets;
  run.texts = texts;
  run.tokens = offsets[texts];
  run.logits = logits;
  int longest = 0;
  for (int text = 0; text < texts; text++) {
    const int length = offsets[text + 1] - offsets[text];
    if (length < 1 || model->first_position + length > model->positions) return false;
    longest = length > longest ? length : longest;
  }
  for (int token = 0; token < run.tokens; token++)
    if (ids[token] < 0 || ids[token] >= model->vocabulary || (types && model->type_table && (types[token] < 0 || types[token] >= model->types))) return false;
  run.pool = pool_of(threads);
  if (!run.pool) return false;
  Arena arena = {(uint8_t*)workspace, 0};
  lay(arena, run, threads, longest);
  memset(run.counters, 0, (16 + 16 * (size_t)model->layers) * sizeof(int));
  pool_run(run.pool, body, &run);
  return true;
}

// One product: out [t][n] = act(x [t][k] W^T + bias).
struct Product {
  const Kernels* kernels;
  Pool* pool;
  const Matrix* weight;
  Panel panel;
  Finish finish;
  const float* x;
  int counters[2];
  uint8_t* scratch;
  size_t stride;
};

SW_API bool sw_linear(const Matrix* weight, const float* x, int tokens, const float* bias, int activation, int threads, float* out) {
  Product run = {};
  run.kernels = chosen_kernels();
  run.pool = pool_of(threads);
  run.weight = weight;
  run.stride = rounded(scratch_bytes(weight, tokens));
  Arena arena = {nullptr, 0};
  for (int pass = 0; pass < 2; pass++) {
    if (pass) {
      arena.base = (uint8_t*)aligned_alloc(ALIGN, rounded(arena.used));
      if (!arena.base || !run.pool) return false;
      arena.used = 0;
    }
    uint8_t* data = arena.take<uint8_t>(panel_bytes(weight->form, weight->precision, tokens, weight->k));
    float* scales = arena.take<float>(tokens);
    run.panel = {weight->form, weight->precision, tokens, weight->k, data, scales};
    run.scratch = arena.take<uint8_t>(run.stride * threads);
  }
  run.finish = {bias, nullptr, out, activation, 0, weight->n};
  run.x = x;
  pool_run(run.pool, [](void* context, int thread) {
    Product& run = *(Product*)context;
    run.kernels->prepare();
    const int blocks = (run.panel.t + TOKENS - 1) / TOKENS;
    for (int block; (block = __atomic_fetch_add(&run.counters[0], 1, __ATOMIC_RELAXED)) < blocks;)
      run.kernels->pack(&run.panel, run.x, run.weight->k, block * TOKENS, (block + 1) * TOKENS < run.panel.t ? (block + 1) * TOKENS : run.panel.t);
    pool_barrier(run.pool);
    for (int task; (task = __atomic_fetch_add(&run.counters[1], 1, __ATOMIC_RELAXED)) < task_count(run.weight);)
      run.kernels->product(run.weight, &run.panel, &run.finish, task, run.scratch + run.stride * thread);
  }, &run);
  free(arena.base);
  return true;
}
