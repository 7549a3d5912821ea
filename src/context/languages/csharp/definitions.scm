(class_declaration name: (identifier) @name) @class
(struct_declaration name: (identifier) @name) @class
(record_declaration name: (identifier) @name) @class
(record_declaration (parameter_list (parameter name: (identifier) @name) @field))
(interface_declaration name: (identifier) @name) @interface
(enum_declaration name: (identifier) @name) @enum
(enum_member_declaration name: (identifier) @name) @member
(delegate_declaration name: (identifier) @name) @type
(method_declaration name: (identifier) @name) @method
(constructor_declaration name: (identifier) @name) @method
(property_declaration name: (identifier) @name) @field
(field_declaration (variable_declaration (variable_declarator (identifier) @name))) @field
(event_field_declaration (variable_declaration (variable_declarator (identifier) @name))) @field
(event_declaration name: (identifier) @name) @field
(local_function_statement name: (identifier) @name) @function
