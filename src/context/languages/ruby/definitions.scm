(method name: (_) @name) @method
(singleton_method name: (_) @name) @method
(class name: [(constant) (scope_resolution name: (constant))] @name) @class
(module name: [(constant) (scope_resolution name: (constant))] @name) @module
(assignment left: (constant) @name) @constant
(call
  method: (identifier) @_attribute
  arguments: (argument_list (simple_symbol) @name)
  (#match? @_attribute "^(attr_(reader|writer|accessor)|delegate|scope|has_many|has_one|belongs_to)$")) @field
