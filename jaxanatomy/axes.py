"""The legend of axis letters.

Array names end in the letters of their axes, in order: `x_BTD` is a residual
stream of B sequences, T tokens and D features. One letter means the same
everywhere in the package.

| letter | axis |
| --- | --- |
| B | sequences of a batch |
| T | tokens of a sequence (queries) |
| S | tokens of a sequence (keys and values) |
| D | residual width, `hidden_size` |
| H | query heads |
| K | key-value heads (groups of query heads) |
| G | query heads in one key-value group, H = K * G |
| d | width of one head, `head_dim` |
| F | width of the feed-forward layer, `ffn_width` |
| V | vocabulary |
| L | layers of a model or a stack |
| N | parameters of one component of a layer, flattened |
| C | streams in one call of the sweep engine, its width |
| R | rows of packed text that one stream holds |
| P | predicted positions of a text batch |
| Q | temperatures at which a loss is read |
| A | gates of one position: one for each query head, one for attention's bias, one for the MLP |
| X | slots of the pool in which the sweep engine keeps its streams |
"""
