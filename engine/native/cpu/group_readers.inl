/* Included by isa_*.cpp after lanes.inl. Readers decode one packed group of 16 rows (CpuWeight) in the order
 * of its columns: open() once, block() before the kWords words of a block, word() before the kPerWord columns
 * of a word, then value(i) is column i of the word, exactly the value that the file's format gives it. */

template <ek_type Type>
struct ReadFloats {
  static constexpr int kWords = 1, kPerWord = 1;
  const uint8_t* at;
  Vec column;

  void open(const uint8_t* group, int32_t) { at = group; }
  void block() {}
  void word() {
    if constexpr (Type == EK_F32) {
      column = load(reinterpret_cast<const float*>(at));
    } else if constexpr (Type == EK_F16) {
      column = halves(reinterpret_cast<const f16*>(at));
    } else {
      uint32_t bits[kLanes];
      for (int i = 0; i < kLanes; i++)
        bits[i] = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(at)[i]) << 16;
      column = float_of_bits(load_words(bits));
    }
    at += (Type == EK_F32 ? 4 : 2) * kLanes;
  }
  Vec value(int) const { return column; }
};

/* Where the heads and the words of a group begin; columns come in blocks of 32. */
template <ek_type Type>
struct ReadHeads {
  static constexpr int kWords = 4, kPerWord = 8;
  const uint8_t *head, *at;

  void open(const uint8_t* group, int32_t n_cols) {
    head = group;
    at = group + head_bytes(Type, n_cols);
  }
  Vec next_halves() {
    const Vec d = halves(reinterpret_cast<const f16*>(head));
    head += 2 * kLanes;
    return d;
  }
  Vec next_bytes() {
    const Vec scale = signed_bytes(head);
    head += kLanes;
    return scale;
  }
  Int next_words() {
    const Int q = load_words(at);
    at += sizeof q;
    return q;
  }
};

struct ReadQ8 : ReadHeads<EK_Q8_0> {
  Vec d;
  const uint8_t* bytes;

  void block() { d = next_halves(); }
  void word() {
    bytes = at;
    at += kPerWord * kLanes;
  }
  Vec value(int i) const { return d * signed_bytes(bytes + i * kLanes); }
};

struct ReadQ4 : ReadHeads<EK_Q4_0> {
  Vec d;
  Int q;

  void block() { d = next_halves(); }
  void word() { q = next_words(); }
  Vec value(int i) const { return d * nibbles(q >> (4 * i)); }
};

/* A fifth bit of 32 columns lies in one word before their nibbles. */
struct ReadQ5 : ReadHeads<EK_Q5_0> {
  Vec d;
  Int q = {}, next = {}, high = {};

  void block() {
    d = next_halves();
    next = next_words();
  }
  void word() {
    q = next_words();
    high = next;
    next = next >> 8;
  }
  Vec value(int i) const { return d * to_float(((q >> (4 * i)) & 15) + (((high >> i) & 1) << 4) - 16); }
};

/* Q4_K and Q5_K: per 256 columns the two factors, per 32 a scale and a minimum. Products of factor, scale and
 * integer are exact in f32, so each value is rounded once, by its subtraction. */
template <ek_type Type>
struct ReadMinScaled : ReadHeads<Type> {
  int part = 0;
  Vec d = {}, dmin = {}, scale = {}, min = {};
  Int q = {}, next = {}, high = {};

  void block() {
    if (part % 8 == 0) {
      d = this->next_halves();
      dmin = this->next_halves();
    }
    part++;
    scale = d * this->next_bytes();
    min = dmin * this->next_bytes();
    if constexpr (Type == EK_Q5_K) next = this->next_words();
  }
  void word() {
    q = this->next_words();
    if constexpr (Type == EK_Q5_K) {
      high = next;
      next = next >> 8;
    }
  }
  Vec value(int i) const {
    Int n = (q >> (4 * i)) & 15;
    if constexpr (Type == EK_Q5_K) n = n + (((high >> i) & 1) << 4);
    return scale * to_float(n) - min;
  }
};

/* Q6_K: a factor for 256 columns, a scale for 16; two high bits of 16 columns lie in one word, two words
 * before the nibbles of 32 columns. */
struct ReadQ6K : ReadHeads<EK_Q6_K> {
  int part = 0, words = 0;
  Vec d = {}, scale = {};
  Int q = {}, next[2] = {}, high = {};

  void block() {
    if (part % 8 == 0) d = next_halves();
    part++;
    words = 0;
    next[0] = next_words();
    next[1] = next_words();
  }
  void word() {
    if (words % 2 == 0) scale = d * next_bytes();
    high = words % 2 == 0 ? next[words / 2] : next[words / 2] >> 16;
    words++;
    q = next_words();
  }
  Vec value(int i) const {
    return scale * to_float(((q >> (4 * i)) & 15) + (((high >> (2 * i)) & 3) << 4) - 32);
  }
};

/* Calls use with the reader of a type. */
template <class Use>
EK_INLINE void with_reader(ek_type type, Use&& use) {
  switch (type) {
    case EK_F32:
      return use(ReadFloats<EK_F32>{});
    case EK_F16:
      return use(ReadFloats<EK_F16>{});
    case EK_BF16:
      return use(ReadFloats<EK_BF16>{});
    case EK_Q4_0:
      return use(ReadQ4{});
    case EK_Q5_0:
      return use(ReadQ5{});
    case EK_Q8_0:
      return use(ReadQ8{});
    case EK_Q4_K:
      return use(ReadMinScaled<EK_Q4_K>{});
    case EK_Q5_K:
      return use(ReadMinScaled<EK_Q5_K>{});
    case EK_Q6_K:
      return use(ReadQ6K{});
    case EK_FP8_E4M3: /* refused before */
      return;
  }
}

/* 16 packed rows of a weight as f32 (n_cols, 16). */
void unpack(ek_type type, const uint8_t* group, int32_t n_cols, float* out) {
  if (type == EK_F32) {
    __builtin_memcpy(out, group, sizeof(float) * kLanes * n_cols);
    return;
  }
  with_reader(type, [&](auto read) {
    read.open(group, n_cols);
    for (int32_t c = 0; c < n_cols;) {
      read.block();
      for (int w = 0; w < read.kWords; w++, c += read.kPerWord) {
        read.word();
        for (int i = 0; i < read.kPerWord; i++) store(out + (c + i) * kLanes, read.value(i));
      }
    }
  });
}
